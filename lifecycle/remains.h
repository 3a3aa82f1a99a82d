/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"
#include "store/store.h"

/*
 * Where something of a destroyed secret may be, until when, and what it is good for. A pure function over
 * what the record remembers and what the store says now. What cannot be known is said so: nothing here
 * knows about disks, copies of files, or the memory of nodes.
 */
enum remains_place {
    REMAINS_STORE = 1, /* the broker's store itself, as brokers and its clients can ask it */
    REMAINS_FILES,     /* files and disks below the store */
    REMAINS_BACKUPS,   /* backups of the store */
    REMAINS_RECOVERY,  /* recovery tokens in headers */
    REMAINS_COPIES,    /* copies of the disk that the storage made */
    REMAINS_NODES,     /* memory of nodes */
    REMAINS_PLACE_COUNT
};
enum remains_state {
    REMAINS_NONE = 1, /* there is nothing, for sure */
    REMAINS_POSSIBLE, /* there is or may be something, and the text says until when */
    REMAINS_UNKNOWN   /* nobody here can know; the text says what would end it */
};
#define REMAINS_TEXT_MAX 511

struct remains {
    enum remains_place place;
    enum remains_state state;
    char text[REMAINS_TEXT_MAX + 1];
};

struct remains_facts {
    const char *store; /* its name, see struct store_ops */
    struct store_remains key;
    uint64_t wrapping; /* generation of the wrapping in use now */
    bool has_former;   /* the one before is there, too */
    bool is_erased;    /* the record is; otherwise it has another secret now */
};

/* Fills one row per place, in their order. */
#define REMAINS_ROWS ((size_t)(REMAINS_PLACE_COUNT - 1))
void remains_find(const struct record_destroyed *of, const struct remains_facts *facts,
                  struct remains out[static REMAINS_ROWS]);
