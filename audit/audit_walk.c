/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_walk.h"

#include <string.h>

/* All lines together may be this far from known ones: hostile numbers must not cost hours. */
#define STEPS_MAX      (UINT64_C(1) << 26) /* while somebody checks files */
#define STEPS_OF_START (UINT64_C(1) << 16) /* while the broker starts */

void audit_walk_start(struct audit_walk *walk, const struct secret *root,
                      const struct audit_chain *head)
{
    *walk = (struct audit_walk){ .root = root, .head = head, .chain = audit_chain_none() };
}

void audit_walk_wipe(struct audit_walk *walk)
{
    audit_chain_wipe(&walk->chain);
}

static void note(struct audit_walk *walk, const char *what)
{
    if (walk->problem.code == ERROR_NONE)
        (void)error_set(&walk->problem, ERROR_DATA_LOSS,
                        "the line after number %llu %s: the file was changed",
                        (unsigned long long)walk->chain.seq, what);
}

/* The head keeps its key, too: what follows the head may turn out to be forged. */
static bool reach_head(struct audit_walk *walk, struct error *err)
{
    const struct audit_chain *head = walk->head;
    auto_secret struct secret key = SECRET_INIT;

    if (!secret_alloc(&key, head->key.len, err))
        return false;
    memcpy(key.bytes, head->key.bytes, key.len);
    walk->is_at_head = true;
    walk->chain.seq = head->seq;
    memcpy(walk->chain.id, head->id, sizeof(head->id));
    walk->chain.first = head->first;
    secret_wipe(&walk->chain.key);
    walk->chain.key = secret_take(&key);
    walk->key_seq = head->seq + 1;
    return true;
}

static bool starts_chain(const struct audit_line *line)
{
    return line->event >= AUDIT_BEGUN;
}

static bool explains(const struct audit_line *line)
{
    return line->event == AUDIT_BEGUN || line->event == AUDIT_RESTARTED;
}

/* The first line of all need not follow from another one if it says where its chain began. */
static void check_link(struct audit_walk *walk, const struct audit_line *line)
{
    bool is_free = !walk->has_begun && starts_chain(line);

    if (walk->is_torn && line->event != AUDIT_TORN && !explains(line))
        note(walk, "is not the event \"torn\", but the line before it is torn");
    if (is_free)
        return;
    if (memcmp(line->prev, walk->chain.hash, AUDIT_HASH_TEXT - 1) != 0)
        note(walk, "does not have the hash of the line before it");
    else if (line->seq != walk->chain.seq + 1 && !explains(line))
        note(walk, "does not have the next number");
}

static bool step(struct audit_walk *walk, struct error *err)
{
    if (!audit_chain_derive(&walk->chain, err))
        return false;
    audit_chain_advance(&walk->chain);
    walk->key_seq++;
    return true;
}

/* Goes on to the key of this line. *found: there is a way to it. */
static bool find_key(struct audit_walk *walk, const struct audit_line *line, bool *found,
                     struct error *err)
{
    struct audit_chain *chain = &walk->chain;
    bool is_same = !starts_chain(line) || (chain->first == line->first &&
                                           memcmp(chain->id, line->id, sizeof(line->id)) == 0);
    bool goes_on = chain->key.bytes && is_same && walk->key_seq <= line->seq;

    *found = goes_on || (walk->root && starts_chain(line) && line->first <= line->seq);
    if (!*found)
        return true;
    if (!goes_on) {
        if (!audit_chain_begin(chain, walk->root, line->id, line->first, err))
            return false;
        walk->key_seq = line->first;
    }
    uint64_t limit = walk->root ? STEPS_MAX : STEPS_OF_START, steps = line->seq - walk->key_seq;

    *found = steps <= limit - walk->jumped;
    walk->jumped += *found ? steps : 0;
    while (*found && walk->key_seq < line->seq)
        if (!step(walk, err))
            return false;
    return true;
}

/* *is_good: the MAC is good, or cannot be checked. */
static bool check_mac(struct audit_walk *walk, const char *text, const struct audit_line *line,
                      bool *is_good, struct error *err)
{
    bool has_key = false;

    *is_good = !walk->root && !walk->is_at_head;
    if (*is_good)
        return true;
    return find_key(walk, line, &has_key, err) &&
           (!has_key ||
            (audit_line_verify(&walk->chain, text, line, is_good, err) && step(walk, err)));
}

static bool take_line(struct audit_walk *walk, const char *text, const struct audit_line *line,
                      struct error *err)
{
    bool is_good = false;

    if (!check_mac(walk, text, line, &is_good, err))
        return false;
    if (explains(line) && is_good) {
        walk->problem = (struct error)ERROR_INIT;
        walk->restarts += line->event == AUDIT_RESTARTED || walk->has_begun;
    }
    check_link(walk, line);
    if (!is_good)
        note(walk, "does not have the broker's MAC");
    walk->chain.seq = line->seq;
    return true;
}

/* The broker may have stopped between the first line of a new file and its head. */
static bool follows_head(const struct audit_walk *walk, const struct audit_line *line)
{
    const struct audit_chain *head = walk->head;

    return head && !walk->has_begun && line->event == AUDIT_ROTATED && line->seq == head->seq + 1 &&
           memcmp(line->prev, head->hash, AUDIT_HASH_TEXT - 1) == 0;
}

static bool is_head(const struct audit_walk *walk, const struct audit_line *line)
{
    const struct audit_chain *head = walk->head;

    return head && !walk->is_at_head && line->seq == head->seq &&
           strcmp(walk->chain.hash, head->hash) == 0;
}

bool audit_walk_line(struct audit_walk *walk, const struct audit_text *text, struct error *err)
{
    struct audit_line *line = &walk->line;
    bool is_line = !text->is_long && audit_line_read(text->bytes, text->len, line);

    if (is_line && follows_head(walk, line) && !reach_head(walk, err))
        return false;
    walk->ahead += is_line && walk->is_at_head;
    if (is_line && !take_line(walk, text->bytes, line, err))
        return false;
    if (!is_line && walk->is_torn)
        note(walk, "is torn, and so is the line before it");
    walk->is_torn = !is_line;
    walk->has_begun = true;
    memcpy(walk->chain.hash, text->hash, AUDIT_HASH_TEXT);
    return !is_line || !is_head(walk, line) || reach_head(walk, err);
}

bool audit_walk_file(struct audit_walk *walk, int fd, uint64_t *out_size, bool *ends_line,
                     struct error *err)
{
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct audit_text text = { .has_end = true };
    bool found = true;

    if (!audit_reader_open(&reader, fd, err))
        return false;
    while (found)
        if (!audit_reader_next(&reader, &text, &found, err) ||
            (found && !audit_walk_line(walk, &text, err)))
            return false;
    *out_size = reader.size;
    *ends_line = text.has_end;
    return true;
}
