/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "tests/unit/broker/two_nodes_broker.h"
#include "tests/unit/test.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum work { IDLE, ASKED, GOT, WRITING, MAPPED };
struct node {
    uint8_t work, boot, is_attached, has_device;
    uint8_t version, attempt; /* of the last answer; attempt 0: the volume is READY */
    uint8_t opens;            /* used up */
    uint8_t takes_over;       /* waits for that answer */
};

/* A call of the controller. */
enum call_kind { NO_CALL, CALL_PUBLISH, CALL_UNPUBLISH, CALL_DELETE };
enum call_step { CALL_BEGUN, CALL_SENT, CALL_ANSWERED, CALL_DONE };
struct call {
    uint8_t kind, node, step, epoch;
};

#define CALLS_MAX    5
#define MESSAGES_MAX 14
struct state {
    struct brief record;
    struct node nodes[NODES];
    struct call calls[CALLS_MAX];          /* sorted */
    struct message messages[MESSAGES_MAX]; /* all that may still arrive; sorted */
    uint8_t repeats;                       /* used up */
};

/* What leads from a state to the next, for the trace. */
struct action {
    const char *what;
    uint8_t node;
    bool is_lost;
    struct message message;
};

struct entry {
    struct state state;
    uint32_t parent, nth;
};

struct search {
    const struct model *model;
    struct entry *entries;
    uint32_t n, *table, table_size;
    uint32_t from; /* whose successors are made */
    uint32_t nth, wanted_nth;
    struct action *wanted; /* only this successor's action is asked for */
    unsigned n_steps;
    const char *violation;
};

const char *model_fault_name(enum model_fault fault)
{
    static const char *const names[FAULT_COUNT] = {
        "none",
        "unpublish ignores the epoch",
        "publish ignores other nodes",
        "open ignores publications",
        "unpublish before detach",
        "no retirement",
        "device after key",
    };

    return names[fault];
}

/* --- the search --- */

static int compare_messages(const void *a, const void *b)
{
    return memcmp(b, a, sizeof(struct message)); /* the empty ones last */
}

static int compare_calls(const void *a, const void *b)
{
    return memcmp(b, a, sizeof(struct call));
}

/* False when the state has no room: then this branch is not followed. */
static bool send_message(struct state *s, uint8_t kind, uint8_t who, uint8_t a, uint8_t b)
{
    const struct message m = { kind, who, a, b, 0 };
    size_t n = 0;

    for (; n < MESSAGES_MAX && s->messages[n].kind != 0; n++)
        if (memcmp(&s->messages[n], &m, offsetof(struct message, arrived)) == 0) {
            s->messages[n].arrived = 0;
            return true;
        }
    if (n == MESSAGES_MAX)
        return false;
    s->messages[n] = m;
    qsort(s->messages, n + 1, sizeof(m), compare_messages);
    return true;
}

static bool is_live(const struct node *n)
{
    return n->is_attached && n->has_device && (n->work == WRITING || n->work == MAPPED);
}

static bool is_of_node(uint8_t holder, unsigned node)
{
    return holder != 0 && (holder - 1u) / 2 == node;
}

/* A request of this node, or of its earlier boot, that arrives late may have counted the attempt on or
 * changed the boot: then READY fails. */
static bool formats_by_right(const struct brief *r, unsigned node)
{
    return (r->phase == RECORD_FORMATTING && is_of_node(r->formatter, node)) ||
           (r->phase == RECORD_READY && is_of_node(r->lease, node)); /* the answer is on its way */
}

/* What must hold in every state; NULL: all does. */
static const char *find_violation(const struct state *s)
{
    const struct brief *r = &s->record;

    if (is_live(&s->nodes[A]) && is_live(&s->nodes[B]))
        return "two nodes write one volume";
    if (mode_of(r, A) != PUBLICATION_NONE && mode_of(r, B) != PUBLICATION_NONE)
        return "two nodes have the volume published";
    for (unsigned node = A; node < NODES; node++) {
        const struct node *n = &s->nodes[node];
        bool is_writer = mode_of(r, node) != PUBLICATION_NONE; /* or leaving */

        if (is_of_node(r->lease, node) && !is_writer)
            return "a node has the lease without a publication";
        if (is_of_node(r->formatter, node) && !is_writer)
            return "a node has the format without a publication";
        if (is_live(n) && n->work == WRITING && !formats_by_right(r, node))
            return "a node formats what another one may have";
        if (is_live(n) && (r->phase == RECORD_DELETING || r->phase == RECORD_ERASED))
            return "a volume is deleted that a node has open";
    }
    return NULL;
}

static void take(struct search *x, struct state *next, struct action action)
{
    for (size_t i = 0; i < MESSAGES_MAX && next->repeats == x->model->n_repeats; i++)
        if (next->messages[i].arrived)
            next->messages[i] = (struct message){ .kind = 0 };
    qsort(next->messages, MESSAGES_MAX, sizeof(next->messages[0]), compare_messages);
    qsort(next->calls, CALLS_MAX, sizeof(next->calls[0]), compare_calls);
    x->n_steps++;
    if (x->wanted) {
        if (x->nth++ == x->wanted_nth)
            *x->wanted = action;
        return;
    }
    uint32_t nth = x->nth++, at = (uint32_t)(hash_bytes(next, sizeof(*next)) % x->table_size);

    for (; x->table[at] != 0; at = (at + 1) % x->table_size)
        if (memcmp(&x->entries[x->table[at] - 1].state, next, sizeof(*next)) == 0)
            return;
    if (x->n == x->model->n_states) {
        x->violation = "there are more states than expected";
        return;
    }
    x->entries[x->n] = (struct entry){ *next, x->from, nth };
    x->table[at] = ++x->n;
    if (!x->violation)
        x->violation = find_violation(next);
}

/* --- the nodes --- */

static void ask(struct search *x, const struct state *s, uint8_t node)
{
    struct state next = *s;
    struct node *n = &next.nodes[node];
    bool holds_device = x->model->fault != FAULT_DEVICE_AFTER_KEY;

    if (n->work != IDLE || n->opens == x->model->n_opens || (holds_device && !n->is_attached))
        return;
    n->has_device = holds_device;
    n->takes_over = false; /* it waits for that answer no longer */
    n->opens++;
    n->work = ASKED;
    if (send_message(&next, OPEN, (uint8_t)(2 * node + n->boot), 0, 0))
        take(x, &next, (struct action){ .what = "asks for the key", .node = node });
}

static void use_key(struct search *x, const struct state *s, uint8_t node)
{
    struct state next = *s;
    struct node *n = &next.nodes[node];
    uint8_t who = (uint8_t)(2 * node + n->boot);

    if (n->work != GOT || !n->is_attached)
        return;
    if (x->model->fault == FAULT_DEVICE_AFTER_KEY)
        n->has_device = true;
    if (!n->has_device)
        return;
    n->work = n->attempt > 0 ? WRITING : MAPPED;
    bool sent = n->attempt > 0 ? send_message(&next, READY, who, n->version, n->attempt)
                               : send_message(&next, OPENED, who, n->version,
                                              (uint8_t)(s->record.counter + 1));
    if (sent)
        take(x, &next,
             (struct action){ .what = n->work == WRITING ? "formats" : "opens", .node = node });
}

static void put_away(struct search *x, const struct state *s, uint8_t node)
{
    struct state next = *s;
    struct node *n = &next.nodes[node];

    if (n->work != WRITING && n->work != MAPPED)
        return;
    bool sent =
        send_message(&next, CLOSED, (uint8_t)(2 * node + n->boot), n->version, n->work == MAPPED);
    n->work = IDLE;
    n->has_device = false;
    if (sent)
        take(x, &next, (struct action){ .what = "closes", .node = node });
}

static void reboot(struct search *x, const struct state *s, uint8_t node)
{
    struct state next = *s;
    struct node *n = &next.nodes[node];

    if (n->boot + 1u >= x->model->n_boots)
        return;
    n->boot++;
    n->work = IDLE;
    n->has_device = false;
    take(x, &next, (struct action){ .what = "reboots", .node = node });
    n->takes_over = true;
    if (send_message(&next, TAKE_OVER, (uint8_t)(2 * node + n->boot), 0, 0))
        take(x, &next, (struct action){ .what = "reboots and takes over", .node = node });
}

/* The answer reaches the node, when it still waits for it. */
static void answer_node(struct search *x, struct state next, const struct message *m, bool ok)
{
    struct node *n = &next.nodes[m->who / 2];
    bool is_change = m->kind == READY || m->kind == OPENED;
    bool waits = (m->kind == TAKE_OVER && n->takes_over) || (m->kind == OPEN && n->work == ASKED) ||
                 (m->kind == READY && n->work == WRITING && n->version == m->a) ||
                 (m->kind == OPENED && n->work == MAPPED && n->version == m->a);

    if (n->boot != m->who % 2 || !waits)
        return;
    if (m->kind == TAKE_OVER) {
        n->takes_over = false;
        if (!ok || !send_message(&next, CLOSED, m->who, next.record.version, false))
            return;
    } else if (!ok) {
        n->work = IDLE;
        n->has_device = false;
    } else {
        n->version = next.record.version;
        n->attempt = next.record.phase == RECORD_FORMATTING ? next.record.attempt : 0;
        n->work = is_change ? MAPPED : GOT;
        if (m->kind == READY &&
            !send_message(&next, OPENED, m->who, n->version, (uint8_t)(next.record.counter + 1)))
            return;
    }
    take(x, &next, (struct action){ .what = ok ? "accepted" : "refused", .message = *m });
}

/* --- the controller and the storage --- */

static void detach(struct node *n)
{
    n->is_attached = n->has_device = false;
}

static bool attach(const struct model *model, struct state *s, uint8_t node)
{
    if (!model->many_attach && s->nodes[!node].is_attached)
        return false;
    s->nodes[node].is_attached = true;
    return true;
}

static bool retires(const struct model *model)
{
    return model->fault != FAULT_NO_RETIREMENT && model->fault != FAULT_UNPUBLISH_BEFORE_DETACH;
}

static void begin_call(struct search *x, const struct state *s, uint8_t kind, uint8_t node)
{
    struct state next = *s;
    struct call *call = NULL;

    for (size_t i = 0; i < x->model->n_calls && !call; i++)
        call = next.calls[i].kind == NO_CALL ? &next.calls[i] : NULL;
    if (!call)
        return;
    *call = (struct call){ kind, node, CALL_BEGUN, s->record.epoch };
    if (kind == CALL_DELETE) {
        call->step = CALL_SENT;
        if (send_message(&next, BEGIN_DELETE, 0, 0, 0))
            take(x, &next, (struct action){ .what = "delete begins" });
        return;
    }
    if (kind == CALL_PUBLISH && !x->model->attach_first) {
        call->step = CALL_SENT;
        if (!send_message(&next, PUBLISH, (uint8_t)(2 * node), call->epoch, 0))
            return;
    }
    if (kind == CALL_UNPUBLISH && retires(x->model)) {
        call->step = CALL_SENT;
        if (!send_message(&next, RETIRE, (uint8_t)(2 * node), call->epoch, 0))
            return;
    }
    take(x, &next,
         (struct action){ .what =
                              kind == CALL_PUBLISH ? "publish begins for" : "unpublish begins for",
                          .node = node });
}

static void go_on(struct search *x, const struct state *s, size_t i)
{
    struct state next = *s;
    struct call *call = &next.calls[i];
    uint8_t who = (uint8_t)(2 * call->node);
    bool is_early = x->model->fault == FAULT_UNPUBLISH_BEFORE_DETACH;

    if (call->kind == CALL_PUBLISH && call->step != CALL_SENT && call->step != CALL_DONE) {
        bool publishes_next = call->step == CALL_BEGUN;

        call->step = publishes_next ? CALL_SENT : CALL_DONE;
        if (attach(x->model, &next, call->node) &&
            (!publishes_next || send_message(&next, PUBLISH, who, call->epoch, 0)))
            take(x, &next, (struct action){ .what = "storage attaches", .node = call->node });
    } else if (call->kind == CALL_UNPUBLISH && call->step == CALL_BEGUN && is_early) {
        call->step = CALL_ANSWERED;
        if (send_message(&next, UNPUBLISH, who, call->epoch, 0))
            take(x, &next, (struct action){ .what = "unpublish is sent for", .node = call->node });
    } else if (call->kind == CALL_UNPUBLISH && call->step != CALL_SENT && call->step != CALL_DONE) {
        call->step = CALL_DONE;
        detach(&next.nodes[call->node]);
        if (is_early || send_message(&next, UNPUBLISH, who, call->epoch, 0))
            take(x, &next, (struct action){ .what = "storage detaches", .node = call->node });
    }
}

/* The deletion is finished after it was begun, and then the id is used again. */
static bool go_on_deleting(struct state *next, struct call *call, const struct message *m)
{
    if (m->kind != BEGIN_DELETE && m->kind != FINISH_DELETE)
        return false;
    call->epoch = 0;
    call->step = m->kind == BEGIN_DELETE ? CALL_SENT : CALL_DONE;
    return send_message(next, m->kind == BEGIN_DELETE ? FINISH_DELETE : CREATE, 0, 0, 0);
}

static void answer_calls(struct search *x, const struct state *s, const struct message *m)
{
    for (size_t i = 0; i < CALLS_MAX; i++) {
        struct state next = *s;
        struct call *call = &next.calls[i];
        bool is_of = (m->kind == PUBLISH && call->kind == CALL_PUBLISH) ||
                     (m->kind == RETIRE && call->kind == CALL_UNPUBLISH);
        bool is_meant = is_of && call->node == m->who / 2 && call->epoch == m->a;

        if (call->step != CALL_SENT || (!is_meant && call->kind != CALL_DELETE))
            continue;
        if (call->kind == CALL_DELETE && !go_on_deleting(&next, call, m))
            continue;
        if (call->kind != CALL_DELETE) {
            call->epoch = next.record.epoch;
            call->step =
                call->kind == CALL_PUBLISH && x->model->attach_first ? CALL_DONE : CALL_ANSWERED;
        }
        take(x, &next, (struct action){ .what = "accepted", .message = *m });
    }
}

static void take_delivery(struct search *x, const struct state *s, size_t i)
{
    struct state next = *s;
    const struct message arriving = s->messages[i], *m = &arriving;

    if (m->arrived && next.repeats++ == x->model->n_repeats)
        return;
    next.messages[i].arrived = 1;
    bool ok = deliver(x->model, &next.record, m);
    bool is_new = memcmp(&next.record, &s->record, sizeof(next.record)) != 0;

    if (is_new)
        take(x, &next, (struct action){ .what = "accepted, answer lost", .message = *m });
    if (m->kind == OPEN || m->kind == READY || m->kind == OPENED || m->kind == TAKE_OVER)
        answer_node(x, next, m, ok);
    else if (ok)
        answer_calls(x, &next, m);
}

static void make_successors(struct search *x, const struct state *s)
{
    x->nth = 0;
    for (size_t i = 0; i < MESSAGES_MAX && s->messages[i].kind != 0; i++)
        take_delivery(x, s, i);
    for (size_t i = 0; i < CALLS_MAX; i++)
        go_on(x, s, i);
    for (uint8_t node = A; node < (uint8_t)NODES; node++) {
        ask(x, s, node);
        use_key(x, s, node);
        put_away(x, s, node);
        reboot(x, s, node);
        begin_call(x, s, CALL_PUBLISH, node);
        begin_call(x, s, CALL_UNPUBLISH, node);
    }
    begin_call(x, s, CALL_DELETE, 0);
}

/* NOLINTNEXTLINE(misc-no-recursion): a trace has few steps */
static void print_trace(struct search *x, uint32_t at, unsigned *depth)
{
    static const char *const kinds[] = { "",          "publish",      "retire",        "unpublish",
                                         "open",      "ready",        "opened",        "closed",
                                         "take over", "begin delete", "finish delete", "create" };
    struct action action = { .what = "" };

    if (at == 0)
        return;
    print_trace(x, x->entries[at].parent, depth);
    x->wanted = &action;
    x->wanted_nth = x->entries[at].nth;
    make_successors(x, &x->entries[x->entries[at].parent].state);
    x->wanted = NULL;
    ++*depth;
    if (action.message.kind != 0)
        print_message("#   %2u. broker: %s of %s, boot %s, for %u: %s\n", *depth,
                      kinds[action.message.kind], node_names[action.message.who / 2],
                      boot_names[action.message.who % 2], action.message.a, action.what);
    else
        print_message("#   %2u. %s: %s\n", *depth, node_names[action.node], action.what);
}

struct model_result model_run(const struct model *model)
{
    struct search x = { .model = model, .table_size = model->n_states * 2 + 1 };
    struct state start = { .record = { .phase = RECORD_NEW, .version = 1 } };
    struct model_result out = { .depth = 0 };

    x.entries = calloc(model->n_states, sizeof(*x.entries));
    x.table = calloc(x.table_size, sizeof(*x.table));
    deliver_anew();
    assert_true(x.entries && x.table);
    take(&x, &start, (struct action){ .what = "" });
    for (uint32_t i = 0; i < x.n && !x.violation; i++) {
        x.from = i;
        make_successors(&x, &x.entries[i].state);
    }
    out.n_states = x.n;
    out.n_steps = x.n_steps;
    out.violation = x.violation;
    if (x.violation) {
        print_message("# %s, fault \"%s\", %s storage:\n", x.violation,
                      model_fault_name(model->fault), model->many_attach ? "shared" : "exclusive");
        uint32_t last = x.n - 1;
        while (last > 0 && !find_violation(&x.entries[last].state))
            last--;
        print_trace(&x, last, &out.depth);
    }
    free(x.entries);
    free(x.table);
    return out;
}
