/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

/*
 * JSON from outside must be one object with each key once. Its nesting is limited, because the
 * parser recurses for each level and would run out of stack.
 */
#define JSON_NESTING_MAX 32

/* Fails with INVALID_ARGUMENT; its text quotes a part of the input. On success the caller owns
 * *out. */
MUST_USE bool json_read_object(const void *text, size_t len, json_t **out, struct error *err);

void json_free_at(json_t **json);
#define auto_json CLEANUP(json_free_at)
