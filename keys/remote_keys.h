/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/uuid.h"
#include "keys/broker_client.h"
#include "keys/keys.h"

/*
 * The keys of a key broker, by the service KeyBroker of proto/keybroker.proto. The broker is trusted to
 * decide, not to be free of bugs: what comes back is checked like anything from outside. INTERNAL
 * when it is not what it should be, FAILED_PRECONDITION when it is of a version not known here.
 */
struct remote_keys {
    struct keys keys;
    struct broker_transport broker;
    const char *driver, *node; /* the caller's */
    char boot_id[BOOT_ID_LEN];
};

/* Texts stay the caller's. */
void remote_keys_init(struct remote_keys *keys, struct broker_transport broker, const char *driver,
                      const char *node);
