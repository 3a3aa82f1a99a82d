/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/two_nodes_broker.h"

#include "tests/unit/broker/fixture.h"

#include <stdio.h>

const char *const node_names[NODES] = { "a", "b" };
const char *const boot_names[2] = { "1", "2" };

static struct record_holder holder_of(uint8_t code)
{
    return code == 0 ? (struct record_holder){ .node = "" }
                     : fixture_holder(node_names[(code - 1) / 2], boot_names[(code - 1) % 2]);
}

static uint8_t code_of(const struct record_holder *holder)
{
    if (holder->node[0] == '\0')
        return 0;
    return (uint8_t)(1 + 2 * (holder->node[0] - 'a') + (holder->boot_id[0] - '1'));
}

enum publication mode_of(const struct brief *b, unsigned node)
{
    return (enum publication)(b->flags >> MODE(node) & MODE_MASK);
}

static struct record whole(const struct brief *b)
{
    struct record r = fixture_record((enum record_phase)b->phase);
    size_t used = 0;

    r.spec.needs_publication = true;
    r.version = b->version;
    r.published.epoch = b->epoch;
    for (unsigned node = A; node < NODES; node++)
        if (mode_of(b, node) != PUBLICATION_NONE)
            used += (size_t)snprintf(r.published.nodes + used, sizeof(r.published.nodes) - used,
                                     "%s%c:%s", used > 0 ? " " : "",
                                     mode_of(b, node) == PUBLICATION_WRITE ? 'w' : 'l',
                                     node_names[node]);
    r.n_header_digests = b->phase == RECORD_READY;
    r.header_digests[0][0] = 0;
    r.format.attempt = b->attempt;
    r.format.holder = holder_of(b->formatter);
    r.format.deadline_ms = b->formatter != 0 ? NOW + LIMIT : 0;
    r.lease.holder = holder_of(b->lease);
    r.open_counter = b->counter;
    r.is_closed = b->flags & IS_CLOSED;
    return r;
}

static struct brief brief_of(const struct record *r)
{
    struct brief b = { .phase = (uint8_t)r->phase,
                       .version = (uint8_t)r->version,
                       .epoch = (uint8_t)r->published.epoch,
                       .attempt = (uint8_t)r->format.attempt,
                       .formatter = code_of(&r->format.holder),
                       .lease = code_of(&r->lease.holder),
                       .counter = (uint8_t)r->open_counter,
                       .flags = r->is_closed ? IS_CLOSED : 0 };

    for (unsigned node = A; node < NODES; node++)
        b.flags |= (uint8_t)(publication_of_node(&r->published, node_names[node]) << MODE(node));
    return b;
}

/* --- the broker --- */

static bool change(struct record *r, const struct message *m, bool *changed, struct error *err)
{
    static const enum record_change_kind kinds[] = { [READY] = RECORD_CHANGE_READY,
                                                     [OPENED] = RECORD_CHANGE_OPENED,
                                                     [CLOSED] = RECORD_CHANGE_CLOSED };
    const struct record_change wanted = { .kind = kinds[m->kind],
                                          .attempt = m->kind == READY ? m->b : 0,
                                          .open_counter = m->kind == OPENED ? m->b : 0,
                                          .is_closed = m->kind == CLOSED && m->b };
    const struct change_request request = { .change = &wanted,
                                            .holder = holder_of((uint8_t)(m->who + 1)),
                                            .expected_version = m->a,
                                            .now_ms = NOW };

    return record_change(r, &request, changed, err);
}

static bool publish(const struct model *model, struct record *r, const struct message *m,
                    bool *changed, struct error *err)
{
    const struct publish_request request = { .node_id = node_names[m->who / 2],
                                             .expected_epoch = m->a };
    struct record_publications before = r->published;

    if (model->fault == FAULT_PUBLISH_IGNORES_OTHERS &&
        publication_of_id(&r->published, request.node_id) == PUBLICATION_NONE)
        r->published.nodes[0] = '\0';
    if (!record_publish(r, &request, changed, err))
        return false;
    if (model->fault == FAULT_PUBLISH_IGNORES_OTHERS && before.nodes[0] != '\0' && *changed)
        (void)snprintf(r->published.nodes, sizeof(r->published.nodes), "w:a w:b");
    return true;
}

static bool open_volume(const struct model *model, struct record *r, const struct message *m,
                        bool *changed, struct error *err)
{
    const struct record_open_request request = { .holder = holder_of((uint8_t)(m->who + 1)),
                                                 .now_ms = NOW,
                                                 .format_ms = LIMIT };

    if (model->fault == FAULT_OPEN_IGNORES_PUBLICATION)
        r->spec.needs_publication = false;
    return record_open(r, &request, changed, err);
}

static bool create(struct record *r, bool *changed, struct error *err)
{
    struct volume_spec spec = fixture_spec();

    spec.needs_publication = true;
    return record_create(r, &spec, &fixture_fresh, changed, err);
}

static bool step(const struct model *model, struct record *r, const struct message *m,
                 bool *changed, struct error *err)
{
    const struct record_holder holder = holder_of((uint8_t)(m->who + 1));
    const struct unpublish_request back = {
        .node_id = node_names[m->who / 2],
        .expected_epoch = model->fault == FAULT_UNPUBLISH_IGNORES_EPOCH ? r->published.epoch : m->a,
        .retire = m->kind == RETIRE
    };

    switch ((enum message_kind)m->kind) {
    case PUBLISH:
        return publish(model, r, m, changed, err);
    case RETIRE:
    case UNPUBLISH:
        return record_unpublish(r, &back, changed, err);
    case OPEN:
        return open_volume(model, r, m, changed, err);
    case TAKE_OVER:
        return record_take_over(r, &holder, changed, err);
    case BEGIN_DELETE:
        return record_begin_delete(r, NOW, changed, err);
    case FINISH_DELETE:
        return record_finish_delete(r, &fixture_not_kept, changed, err);
    case CREATE:
        return create(r, changed, err);
    case READY:
    case OPENED:
    case CLOSED:
        break;
    }
    return change(r, m, changed, err);
}

/* The steps are pure functions, so each is computed once. */
struct memo {
    struct brief before, after;
    struct message message;
    bool is_used, ok;
};
#define MEMOS (1u << 18)
static struct memo memos[MEMOS];

void deliver_anew(void)
{
    for (size_t i = 0; i < MEMOS; i++)
        memos[i].is_used = false;
}

uint64_t hash_bytes(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 0x100000001b3;
    return hash ^ hash >> 29;
}

bool deliver(const struct model *model, struct brief *record, const struct message *m)
{
    uint8_t key[sizeof(*record) + sizeof(*m)];
    struct memo *memo = NULL;

    memcpy(key, record, sizeof(*record));
    memcpy(key + sizeof(*record), m, sizeof(*m));
    memo = &memos[hash_bytes(key, sizeof(key)) % MEMOS];
    if (!memo->is_used || memcmp(&memo->before, record, sizeof(*record)) != 0 ||
        memcmp(&memo->message, m, sizeof(*m)) != 0) {
        struct record r = whole(record);
        struct error err = ERROR_INIT;
        bool changed = false, ok = step(model, &r, m, &changed, &err);

        r.version += ok && changed;
        *memo = (struct memo){ *record, ok && changed ? brief_of(&r) : *record, *m, true, ok };
    }
    *record = memo->after;
    return memo->ok;
}
