/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/record.h"

/*
 * The passphrase of a volume that another program encrypted, on its way from the administrator to the
 * worker that takes the volume over. The broker wraps it with a key from the volume's own secret, and
 * keeps it in the record. So only who may open the volume can unwrap it, and how long it is stays
 * hidden. The form is at Record.old_key in proto/keybroker.proto.
 */

/* INVALID_ARGUMENT unless the passphrase has 1 to OLD_KEY_MAX bytes. secret: the volume's. Uses id and
 * key of the record, and sets old_key. */
MUST_USE bool old_key_wrap(struct record *record, const struct secret *secret,
                           const struct secret *passphrase, struct error *err);

/* FAILED_PRECONDITION when the record has none; DATA_LOSS when it was wrapped for another record or
 * key. */
MUST_USE bool old_key_unwrap(const struct record *record, const struct secret *secret,
                             struct secret *passphrase, struct error *err);
