/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <jansson.h>

/* The log area that firmware leaves behind the ACPI table CCEL, made from a list of events (see
 * tests/sim/td_file.h). *out is owned by the caller. */
MUST_USE bool ccel_make(const json_t *events, uint8_t **out, size_t *len, struct error *err);
