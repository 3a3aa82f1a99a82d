/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* error_code to gRPC's status numbers and back; one table. */
int status_from_error(enum error_code code);
enum error_code status_to_error(int grpc_status); /* unknown numbers are INTERNAL */

#define STATUS_MESSAGE_MAX 2048 /* bytes; longer ones break gRPC-C clients */
