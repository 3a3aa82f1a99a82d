/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/statement.h"

/*
 * A bundle: a folder that shows somebody else, without any network, what a broker is and whom it gave
 * keys. "verify make" writes it, "verify check" reads it.
 *
 *   statement.json  nonce (hex), statement, signature and certificates (base64), as GetStatement in
 *                   proto/keybroker.proto describes them
 *   quote.bin       the broker's quote for that nonce; missing where the broker runs in no TD
 *   event_log.bin   of that TD, if it has one
 *   policy.json     the broker's policy
 *   collateral/     Intel's, for that quote, as for "tdvolctl quote explain"
 *   logs/           the audit logs
 */
#define BUNDLE_STATEMENT  "statement.json"
#define BUNDLE_QUOTE      "quote.bin"
#define BUNDLE_EVENT_LOG  "event_log.bin"
#define BUNDLE_POLICY     "policy.json"
#define BUNDLE_COLLATERAL "collateral"
#define BUNDLE_LOGS       "logs"

#define BUNDLE_PATH_BYTES 4096

/* "FOLDER/NAME"; INVALID_ARGUMENT when it is too long. */
MUST_USE bool bundle_path(const char *folder, const char *name, char out[static BUNDLE_PATH_BYTES],
                          struct error *err);
