/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>

/*
 * All memory of one call: decoded request, response strings, temporary copies. Single pieces are
 * not freed. arena_wipe() clears and frees everything, so that a secret cannot outlive its call. An
 * arena grows by blocks up to a limit. Not thread-safe: each call has its own arena.
 */
struct arena_block;
struct arena {
    struct arena_block *blocks;
    size_t used;  /* bytes handed out, for the limit */
    size_t limit; /* bytes */
    bool secret;  /* blocks are locked, left out of dumps and wiped (struct secret) */
};

/* Or initialise it in the declaration: auto_arena struct arena arena = { .limit = 65536 }; */
void arena_init(struct arena *arena, size_t limit_bytes);
void arena_init_secret(struct arena *arena, size_t limit_bytes);

/* Zeroed, aligned for any type. NULL when the limit or the memory is exhausted. */
void *arena_alloc(struct arena *arena, size_t len);
char *arena_strdup(struct arena *arena, const char *text); /* NULL as above, or when text is NULL */
void *arena_memdup(struct arena *arena, const void *bytes, size_t len);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF(2, 3);

/* Clears and releases everything; the arena is empty and usable again. */
void arena_wipe(struct arena *arena);

#define auto_arena CLEANUP(arena_wipe)

/* "return arena_exhausted(err)" when an arena_ call above gave NULL: RESOURCE_EXHAUSTED. */
bool arena_exhausted(struct error *err);
