/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/uuid.h"
#include "keys/broker_client.h"
#include "keys/keys.h"

/*
 * The keys of a key broker, reached by the service KeyBroker of proto/keybroker.proto. The broker
 * is trusted to decide, but it may have bugs: its answers are checked like all input from outside.
 * INTERNAL when an answer is wrong, FAILED_PRECONDITION when a record has a version that is not
 * known here.
 */
struct remote_keys {
    struct keys keys;
    struct broker_transport broker;
    const char *driver, *node; /* owned by the caller */
    const char *location; /* of copies and listings: node, or "" when every node has the space */
    char boot_id[BOOT_ID_LEN];
};

/* The texts are not copied: they must outlive the keys. */
void remote_keys_init(struct remote_keys *keys, struct broker_transport broker, const char *driver,
                      const char *node);
