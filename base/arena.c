/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/secret.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT       sizeof(max_align_t)
#define BLOCK_BYTES_MIN 4096u
#define BLOCK_BYTES_MAX 65536u

/* A block starts with this struct, so that one allocation makes a block. */
struct arena_block {
    struct arena_block *next;
    size_t size;         /* bytes, this struct included */
    size_t used;         /* bytes, this struct included */
    struct secret pages; /* of a secret arena; otherwise empty: the block is from calloc() */
};

#define BLOCK_START round_up_u64(sizeof(struct arena_block), ALIGNMENT)

void arena_init(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){ .limit = limit_bytes };
}

void arena_init_secret(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){ .limit = limit_bytes, .secret = true };
}

static struct arena_block *make_block(bool is_secret, size_t size)
{
    if (!is_secret) {
        struct arena_block *block = calloc(1, size);

        if (block)
            block->size = size;
        return block;
    }

    struct secret pages = SECRET_INIT;
    struct error ignored = ERROR_INIT;
    if (!secret_alloc(&pages, size, &ignored))
        return NULL;
    struct arena_block *block = (struct arena_block *)(void *)pages.bytes;
    block->size = pages.mapped;
    block->pages = pages;
    return block;
}

static bool add_block(struct arena *arena, size_t need)
{
    size_t size = arena->blocks ? 2 * arena->blocks->size : BLOCK_BYTES_MIN;

    if (size > BLOCK_BYTES_MAX)
        size = BLOCK_BYTES_MAX;
    if (size < BLOCK_START + need)
        size = BLOCK_START + need;

    struct arena_block *block = make_block(arena->secret, size);
    if (!block)
        return false;
    block->used = BLOCK_START;
    block->next = arena->blocks;
    arena->blocks = block;
    return true;
}

void *arena_alloc(struct arena *arena, size_t len)
{
    if (len > PTRDIFF_MAX - BLOCK_BYTES_MAX)
        return NULL;

    size_t need = round_up_u64(len > 0 ? len : 1, ALIGNMENT);
    if (need > arena->limit - arena->used)
        return NULL;
    if (!arena->blocks || arena->blocks->size - arena->blocks->used < need) {
        if (!add_block(arena, need))
            return NULL;
    }

    void *bytes = (uint8_t *)arena->blocks + arena->blocks->used;
    arena->blocks->used += need;
    arena->used += need;
    return bytes;
}

void *arena_memdup(struct arena *arena, const void *bytes, size_t len)
{
    void *copy = arena_alloc(arena, len);

    if (copy && len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return text ? arena_memdup(arena, text, strlen(text) + 1) : NULL;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (!text)
        return NULL;

    va_start(args, fmt);
    (void)vsnprintf(text, (size_t)len + 1, fmt, args);
    va_end(args);
    return text;
}

static void drop_block(struct arena_block *block)
{
    struct secret pages = block->pages;

    if (pages.bytes) {
        secret_wipe(&pages);
        return;
    }
    bytes_wipe(block, block->used);
    free(block);
}

void arena_wipe(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *block = arena->blocks;

        arena->blocks = block->next;
        drop_block(block);
    }
    arena->used = 0;
}

bool arena_exhausted(struct error *err)
{
    return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "this call needs more memory than one call may use: send a smaller request");
}
