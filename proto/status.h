/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/* error_code to gRPC's status numbers and back; one table. */
int status_from_error(enum error_code code);
enum error_code status_to_error(int grpc_status); /* unknown numbers are INTERNAL */

#define STATUS_MESSAGE_MAX 2048 /* bytes; longer ones break gRPC-C clients */

/* Whether the text is a valid reason of an error: 1 to 31 letters. */
bool status_reason_is_word(const char *reason, size_t len);

/* Makes a status message of the text: cuts it between characters, and replaces control characters
 * and invalid UTF-8 by '?'. Returns its length. */
size_t status_message(const char *text, char out[static STATUS_MESSAGE_MAX + 1]);
