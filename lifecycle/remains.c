/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/remains.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef void remains_say(const struct record_destroyed *of, const struct remains_facts *facts,
                         struct remains *out);

__attribute__((format(printf, 3, 4))) static void say(struct remains *out, enum remains_state state,
                                                      const char *format, ...)
{
    va_list arguments;

    out->state = state;
    va_start(arguments, format);
    (void)vsnprintf(out->text, sizeof(out->text), format, arguments);
    va_end(arguments);
}

static bool is_etcd(const struct remains_facts *facts)
{
    return strcmp(facts->store, "etcd") == 0;
}

static void say_store(const struct record_destroyed *of, const struct remains_facts *facts,
                      struct remains *out)
{
    (void)of;
    if (facts->key.users > 0)
        say(out, REMAINS_POSSIBLE,
            "the secret is in use: %" PRIu64 " other volumes or snapshots, copies of each other, "
            "have it too; it is destroyed with the last of them",
            facts->key.users);
    else if (!facts->key.in_past)
        say(out, REMAINS_NONE,
            is_etcd(facts) ? "nothing: etcd's history is compacted beyond revision %" PRIu64
                           : "nothing: the row is overwritten, and the write-ahead log is empty",
            facts->key.revision);
    else if (!is_etcd(facts))
        say(out, REMAINS_POSSIBLE,
            "in the store's write-ahead log, until it is emptied: each change of a record tries "
            "that again");
    else if (facts->key.revision > 0)
        say(out, REMAINS_POSSIBLE,
            "in etcd's history, until that is compacted beyond revision %" PRIu64
            ": brokers ask for that within two minutes",
            facts->key.revision);
    else
        say(out, REMAINS_UNKNOWN,
            "in etcd's history, if that was not compacted since: brokers ask for that within two "
            "minutes of a change that destroys a secret");
}

/* What the bytes of a wrapped secret are good for by now. */
static const char *who_opens(const struct record_destroyed *of, const struct remains_facts *facts)
{
    bool is_dropped = of->wrapping < facts->wrapping &&
                      !(facts->has_former && of->wrapping + 1 == facts->wrapping);

    return is_dropped
               ? "it was wrapped with a key that is destroyed since, too; older values of "
                 "the store's ring of keys, and backups, still have that key under the master key"
               : "it is wrapped, and whoever has the master key and the store's ring of keys "
                 "opens it, until tdvolctl broker rotate-wrapping";
}

static void say_files(const struct record_destroyed *of, const struct remains_facts *facts,
                      struct remains *out)
{
    if (facts->key.users > 0)
        say(out, REMAINS_POSSIBLE, "as long as the secret is in use");
    else
        say(out, REMAINS_UNKNOWN, "%s; %s",
            is_etcd(facts)
                ? "write-ahead logs, snapshots and free pages of etcd's members, until they have "
                  "removed those and were defragmented"
                : "what the file system and the disk below the store keep of overwritten blocks "
                  "(snapshots, copy on write, flash), until that disk is destroyed",
            who_opens(of, facts));
}

static void say_backups(const struct record_destroyed *of, const struct remains_facts *facts,
                        struct remains *out)
{
    char first[CLOCK_TEXT_LEN], last[CLOCK_TEXT_LEN];

    (void)facts;
    clock_text(of->backup_ms, last);
    clock_text(of->made_ms, first);
    if (of->backup_ms == 0)
        say(out, REMAINS_NONE, "nothing: no backup was made before that");
    else if (of->made_ms > of->backup_ms)
        say(out, REMAINS_NONE, "nothing: the last backup before, at %s, is older than the secret",
            last);
    else
        say(out, REMAINS_POSSIBLE,
            "in backups made %s%s%s, the last of them at %s, until all are deleted: each opens "
            "with the master key of its time (events \"backup\" of the audit log name them)",
            of->made_ms > 0 ? "since " : "since its lineage began", of->made_ms > 0 ? first : "",
            is_etcd(facts) ? ", by any broker" : "", last);
}

static void say_recovery(const struct record_destroyed *of, const struct remains_facts *facts,
                         struct remains *out)
{
    (void)facts;
    if (of->has_recovery)
        say(out, REMAINS_POSSIBLE,
            "in the recovery token of the header: the owner's recovery key opens each copy of the "
            "disk with this header, until the last copy is gone");
    else
        say(out, REMAINS_NONE, "nothing: its header had no recovery token");
}

static void say_copies(const struct record_destroyed *of, const struct remains_facts *facts,
                       struct remains *out)
{
    (void)of;
    say(out, REMAINS_UNKNOWN,
        facts->is_erased
            ? "the disk, and copies and snapshots of it that the storage made by itself, hold "
              "the data, encrypted: noise without one of the above"
            : "copies and snapshots of the disk from before, which the storage made by itself, have "
              "the former header: noise without one of the above, and with it they give the data's "
              "key, which a new secret does not change");
}

static void say_nodes(const struct record_destroyed *of, const struct remains_facts *facts,
                      struct remains *out)
{
    (void)of;
    say(out, REMAINS_UNKNOWN,
        facts->is_erased
            ? "no node had it open for writing; a node that read it only, or from which an "
              "administrator took it (volume release), has its key until it unstages it or restarts"
            : "a node that has the volume open has the data's key in its kernel, as before: a new "
              "secret does not change that one");
}

static remains_say *const rows[REMAINS_PLACE_COUNT] = {
    [REMAINS_STORE] = say_store,     [REMAINS_FILES] = say_files,
    [REMAINS_BACKUPS] = say_backups, [REMAINS_RECOVERY] = say_recovery,
    [REMAINS_COPIES] = say_copies,   [REMAINS_NODES] = say_nodes,
};

void remains_find(const struct record_destroyed *of, const struct remains_facts *facts,
                  struct remains out[static REMAINS_ROWS])
{
    for (int place = REMAINS_STORE; place < REMAINS_PLACE_COUNT; place++) {
        struct remains *row = &out[place - 1];

        *row = (struct remains){ .place = (enum remains_place)place };
        rows[place](of, facts, row);
    }
}
