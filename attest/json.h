/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

/*
 * JSON from outside: one object, each key once, and not nested so deeply that the parser, which
 * recurses for each level, runs out of stack.
 */
#define JSON_NESTING_MAX 32

/* INVALID_ARGUMENT; its text quotes a part of the input. On success the caller owns *out. */
MUST_USE bool json_read_object(const void *text, size_t len, json_t **out, struct error *err);

void json_free_at(json_t **json);
#define auto_json CLEANUP(json_free_at)
