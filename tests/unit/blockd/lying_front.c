/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/blockd/lying_front.h"

#include "base/clock.h"
#include "base/uuid.h"
#include "lifecycle/lifecycle.h"
#include "record/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DRIVER     "test.tdvol"
#define NODE       "node"
#define LEASE_MS   60000u
#define FORMAT_MS  600000
#define SIGNED_MAX 16 /* in one conversation */
#define OLDER_MAX  64
#define MUST(x)                                                           \
    do {                                                                  \
        if (!(x)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                      \
        }                                                                 \
    } while (0)

bool __real_block_send_message(int fd, const struct block_message *message, struct error *err);
bool __wrap_block_send_message(int fd, const struct block_message *message, struct error *err);

size_t lying_front_accepted, lying_front_refused;

struct volume {
    struct record record;
    uint8_t secret[VOLUME_SECRET_LEN];
};

/* What the broker signed. */
struct signed_answer {
    struct answer_question question;
    struct encoded record;
};

static struct {
    bool is_made;
    struct broker_end broker, impostor;
    struct worker_config config;
    struct hpke_key_pair front_key; /* a key of the front's, for secrets that it may read */
    char boot_id[BOOT_ID_LEN];

    /* of this conversation */
    const struct front_script *script;
    size_t at, n_questions;
    int front_fd;
    bool read_only, renews;
    struct volume volume, other;
    struct block_message question;
    struct signed_answer log[SIGNED_MAX];
    size_t n_log;
    uint64_t format_ms;  /* that the broker gives */
    bool for_other_boot; /* signed for this question, and yet not to be accepted */

    struct block_answer older[OLDER_MAX]; /* of all conversations */
    size_t n_older;
} w;

static uint32_t pick(uint32_t n)
{
    uint8_t byte = w.at < w.script->len ? w.script->bytes[w.at++] : 0;

    return n > 0 ? byte % n : byte;
}

/* --- the broker --- */

static void make_volume(struct volume *v, const char *id, bool is_ready)
{
    struct error err = ERROR_INIT;
    struct record *r = &v->record;

    *v = (struct volume){ .record = { .kind = RECORD_VOLUME,
                                      .version = 3,
                                      .phase = RECORD_NEW,
                                      .key = { .generation = 1 } } };
    (void)snprintf(r->driver, sizeof(r->driver), DRIVER);
    (void)snprintf(r->tenant, sizeof(r->tenant), "tenant");
    (void)snprintf(r->volume_id, sizeof(r->volume_id), "%s", id);
    (void)snprintf(r->spec.name, sizeof(r->spec.name), "%s", id);
    r->spec.backing = BACKING_FILE;
    r->spec.integrity = INTEGRITY_AEGIS128;
    r->spec.provisioning = PROVISIONING_THIN;
    r->spec.workqueue = WORKQUEUE_AUTO;
    MUST(layout_plan(&r->spec, 64u << 20, &err));
    MUST(random_bytes(r->id, RECORD_ID_LEN, &err) && random_bytes(r->key.id, RECORD_ID_LEN, &err) &&
         random_bytes(v->secret, VOLUME_SECRET_LEN, &err));
    if (!is_ready)
        return;
    r->phase = RECORD_READY;
    r->n_header_digests = 1;
    r->header_digests[0][0] = 1;
    r->open_counter = 4;
    r->is_closed = true;
}

static void seal(const struct volume *v, const uint8_t *public_key, struct sealed_secret *out)
{
    auto_secret struct secret secret = SECRET_INIT;
    struct error err = ERROR_INIT;

    MUST(secret_alloc(&secret, VOLUME_SECRET_LEN, &err));
    memcpy(secret.bytes, v->secret, VOLUME_SECRET_LEN);
    if (!secret_seal(&v->record, &secret, public_key, out, &err))
        *out = (struct sealed_secret){ .bytes = { 0 } };
}

/* A call of the front to the broker: what is asked, in whose name. */
struct broker_call {
    enum answer_kind kind;
    struct volume *volume;
    struct record_holder holder;
    uint8_t nonce[ANSWER_NONCE_LEN], public_key[HPKE_PUBLIC_LEN];
    struct encoded change;
    bool has_proof;
    uint8_t proof[PROOF_LEN];
    uint64_t expected_version;
};

static bool broker_change(struct volume *v, const struct broker_call *call, bool *changed,
                          struct error *err)
{
    struct record_change change;
    struct change_request request = { .change = &change,
                                      .holder = call->holder,
                                      .expected_version = call->expected_version
                                                              ? call->expected_version
                                                              : v->record.version,
                                      .now_ms = clock_wall_ms() };

    return record_change_decode(call->change.bytes, call->change.len, &change, err) &&
           broker_end_accepts(v->secret, &v->record, request.expected_version, &change,
                              call->has_proof ? call->proof : NULL, err) &&
           record_change(&v->record, &request, changed, err);
}

static bool broker_act(const struct broker_call *call, struct error *err)
{
    struct volume *v = call->volume;
    struct record_open_request open = { .holder = call->holder,
                                        .read_only = call->kind == ANSWER_OPEN_READ_ONLY,
                                        .now_ms = clock_wall_ms(),
                                        .format_ms = FORMAT_MS };
    bool changed = false, done = true;

    if (call->kind == ANSWER_CHANGE)
        done = broker_change(v, call, &changed, err);
    else if (call->kind == ANSWER_RENEW)
        done = record_renew(&v->record, &call->holder, LEASE_MS, &changed, err);
    else if (call->kind != ANSWER_RECORD)
        done = record_open(&v->record, &open, &changed, err);
    v->record.version += done && changed;
    return done;
}

static __attribute__((noinline)) void broker_answer(const struct broker_call *call,
                                                    struct block_answer *out)
{
    bool is_open = call->kind == ANSWER_OPEN || call->kind == ANSWER_OPEN_READ_ONLY;
    const uint8_t *subject = is_open                       ? call->public_key
                             : call->kind == ANSWER_CHANGE ? call->change.bytes
                                                           : NULL;
    struct answer_question question = broker_end_question(
        call->kind, call->nonce, subject, is_open ? HPKE_PUBLIC_LEN : call->change.len);
    static struct record told;

    *out = (struct block_answer){ .ok = false };
    out->ok = broker_act(call, &out->err);
    if (!out->ok)
        return;
    told = call->volume->record;
    told.format.remaining_ms = told.phase == RECORD_FORMATTING ? w.format_ms : 0;
    if (is_open)
        seal(call->volume, call->public_key, &out->secret);
    record_encode(&told, &out->record);
    broker_end_sign(&w.broker, &question, &out->record, is_open ? &out->secret : NULL,
                    &out->signature);
    MUST(w.n_log < SIGNED_MAX);
    w.log[w.n_log++] = (struct signed_answer){ question, out->record };
    w.older[w.n_older++ % OLDER_MAX] = *out;
}

/* --- the front --- */

/* The question as the worker means it. */
static struct broker_call honest_call(void)
{
    const struct block_message *q = &w.question;
    struct broker_call call = { .kind = q->kind == BLOCK_ASK_RECORD
                                            ? (w.renews ? ANSWER_RENEW : ANSWER_RECORD)
                                        : q->kind == BLOCK_ASK_CHANGE ? ANSWER_CHANGE
                                        : w.read_only                 ? ANSWER_OPEN_READ_ONLY
                                                                      : ANSWER_OPEN,
                                .volume = &w.volume,
                                .holder = { .node = NODE },
                                .change = q->change,
                                .has_proof = q->relay.has_proof,
                                .expected_version = q->relay.expected_version };

    memcpy(call.holder.boot_id, w.boot_id, sizeof(w.boot_id));
    memcpy(call.nonce, q->relay.nonce, sizeof(call.nonce));
    memcpy(call.public_key, q->sealing_public_key, sizeof(call.public_key));
    memcpy(call.proof, q->relay.proof, sizeof(call.proof));
    return call;
}

/* Another question with the worker's nonce, or about something else. */
static __attribute__((noinline)) struct broker_call bent_call(enum lie lie)
{
    const struct volume_spec *spec = &w.volume.record.spec;
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    const struct record_change grown = { .kind = RECORD_CHANGE_GROWN,
                                         .size_bytes = spec->size_bytes,
                                         .device_bytes = spec->device_bytes + 4096,
                                         .mapping_bytes = spec->mapping_bytes };
    struct record_change asked = { .kind = 0 };
    struct error err = ERROR_INIT;
    struct broker_call call = honest_call();
    bool is_open = call.kind == ANSWER_OPEN || call.kind == ANSWER_OPEN_READ_ONLY;

    if (lie == LIE_OTHER_QUESTION && call.kind == ANSWER_CHANGE) {
        MUST(record_change_decode(call.change.bytes, call.change.len, &asked, &err));
        record_change_encode(asked.kind == RECORD_CHANGE_CLOSED ? &grown : &closed, &call.change);
        call.has_proof = false;
        call.expected_version = 0;
    } else if (lie == LIE_OTHER_QUESTION) {
        call.kind = call.kind == ANSWER_OPEN ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN;
        memcpy(call.public_key, w.config.sealing.public_key, HPKE_PUBLIC_LEN);
    } else if (lie == LIE_OTHER_NONCE) {
        call.nonce[pick(ANSWER_NONCE_LEN)] ^= 1;
    } else if (lie == LIE_OTHER_VOLUME) {
        call.volume = &w.other;
    } else if (lie == LIE_OTHER_BOOT && call.kind == ANSWER_OPEN) {
        (pick(2) ? call.holder.boot_id : call.holder.node)[0] ^= 1;
        w.for_other_boot = true;
    } else if (lie == LIE_OTHER_KEY && is_open) {
        memcpy(call.public_key, w.front_key.public_key, HPKE_PUBLIC_LEN);
    }
    return call;
}

/* Bound to the right record, as the front knows all of that. */
static void seal_own_secret(const struct broker_call *call, struct sealed_secret *out)
{
    struct volume own = w.volume;

    own.secret[0] ^= 1;
    seal(&own, call->public_key, out);
}

static __attribute__((noinline)) void grow_record(void)
{
    struct volume_spec spec = w.volume.record.spec;
    struct record_change grown = { .kind = RECORD_CHANGE_GROWN };
    struct broker_call call = honest_call();
    struct error err = ERROR_INIT;

    MUST(layout_plan_growth(&spec, spec.size_bytes + (64u << 20), &err));
    grown.size_bytes = spec.size_bytes;
    grown.device_bytes = spec.device_bytes;
    grown.mapping_bytes = spec.mapping_bytes;
    record_change_encode(&grown, &call.change);
    call.kind = ANSWER_CHANGE;
    call.has_proof = false;
    call.expected_version = 0;
    (void)!broker_act(&call, &err);
}

/* Then another node could format, too. */
static __attribute__((noinline)) void give_up(void)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct broker_call call = honest_call();
    bool formats = w.volume.record.phase == RECORD_FORMATTING;
    struct error err = ERROR_INIT;

    record_change_encode(&closed, &call.change);
    call.kind = ANSWER_CHANGE;
    call.has_proof = false;
    call.expected_version = 0;
    MUST(!broker_act(&call, &err) || !formats);
}

/* A record of the front's choice: what the attacks were after. */
static __attribute__((noinline)) void bend_record(struct block_answer *answer)
{
    struct error err = ERROR_INIT;
    struct record r;

    if (!record_decode(answer->record.bytes, answer->record.len, &r, &err))
        return;
    switch (pick(7)) {
    case 0:
        r.phase = RECORD_FORMATTING;
        r.format.attempt++;
        r.n_header_digests = 0;
        r.format.remaining_ms = FORMAT_MS;
        break;
    case 1:
        r.spec.integrity = INTEGRITY_NONE;
        MUST(layout_plan(&r.spec, r.spec.size_bytes, &err));
        break;
    case 2:
        r.open_counter += pick(0);
        break;
    case 3:
        r.header_digests[0][pick(SHA256_LEN)] ^= 1;
        break;
    case 4:
        r.is_closed = r.has_clean_hash = false;
        break;
    case 5:
        r.spec.device_bytes = UINT64_MAX - pick(0);
        break;
    default:
        r.version += 1 + pick(0);
        break;
    }
    record_encode(&r, &answer->record);
}

static void mutate(struct block_answer *answer)
{
    const struct {
        uint8_t *bytes;
        size_t len;
    } parts[] = {
        { answer->record.bytes, answer->record.len },
        { answer->secret.bytes, sizeof(answer->secret.bytes) },
        { answer->signature.bytes, answer->signature.len },
        { answer->signature.certificates, answer->signature.certificates_len },
        { (uint8_t *)&answer->record.len, sizeof(answer->record.len) },
        { (uint8_t *)&answer->signature.len, sizeof(answer->signature.len) },
        { (uint8_t *)&answer->signature.certificates_len,
          sizeof(answer->signature.certificates_len) },
        { (uint8_t *)answer, sizeof(*answer) },
    };

    for (uint32_t n = 1 + pick(3); n > 0; n--) {
        uint32_t part = pick(ARRAY_LEN(parts));
        size_t at = pick(0) * 256u + pick(0);

        if (parts[part].len > 0)
            parts[part].bytes[at % parts[part].len] ^= (uint8_t)(1u << pick(8));
    }
}

static void sign_by_impostor(struct block_answer *answer)
{
    const struct broker_call call = honest_call();
    bool is_open = call.kind == ANSWER_OPEN || call.kind == ANSWER_OPEN_READ_ONLY;
    const struct answer_question question =
        broker_end_question(call.kind, call.nonce, is_open ? call.public_key : call.change.bytes,
                            is_open ? HPKE_PUBLIC_LEN : call.change.len);

    bend_record(answer);
    seal(&w.other, call.public_key, &answer->secret);
    broker_end_sign(&w.impostor, &question, &answer->record, is_open ? &answer->secret : NULL,
                    &answer->signature);
}

static void tell(const void *bytes, size_t len)
{
    MUST(send(w.front_fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len);
}

static enum lie next_lie(void)
{
    size_t i = w.n_questions++;

    if (w.script->lies)
        return i < w.script->n_lies ? w.script->lies[i] : LIE_NONE;
    /* Every other answer is honest, so that conversations get anywhere. */
    return pick(2) ? (enum lie)pick(LIE_COUNT) : LIE_NONE;
}

static void answer_question(void)
{
    static struct block_answer answer;
    static struct broker_call call; /* large, too */
    const struct timespec wait = { .tv_nsec = 150000000 };
    enum lie lie = next_lie();

    w.format_ms = lie == LIE_LATE ? 2100 : FORMAT_MS;
    call = bent_call(lie);
    if (lie == LIE_GROWN)
        grow_record();
    if (lie == LIE_GIVES_UP)
        give_up();
    broker_answer(&call, &answer);
    if (lie == LIE_MUTATE)
        mutate(&answer);
    else if (lie == LIE_REPLAY)
        answer = w.older[pick(0) % (w.n_older < OLDER_MAX ? w.n_older + 1 : OLDER_MAX)];
    else if (lie == LIE_MIXED)
        answer.signature = w.older[pick(OLDER_MAX)].signature;
    else if (lie == LIE_OWN_SIGNATURE)
        sign_by_impostor(&answer);
    else if (lie == LIE_OTHER_SECRET)
        seal_own_secret(&call, &answer.secret);
    else if (lie == LIE_UNSIGNED)
        answer.signature = (struct broker_signature){ .len = 0 };
    else if (lie == LIE_FORGED_RECORD)
        bend_record(&answer);
    else if (lie == LIE_REFUSE) {
        size_t len = sizeof(answer.err.text) - pick(2);

        answer.ok = false;
        answer.err.code = (enum error_code)pick(0);
        for (size_t i = 0; i < len; i++)
            answer.err.text[i] = 'x';
    }
    if (lie == LIE_CLOSED) {
        (void)shutdown(w.front_fd, SHUT_RDWR);
        return;
    }
    if (lie == LIE_LATE)
        (void)nanosleep(&wait, NULL);
    tell(&answer, lie == LIE_SHORT ? 1 + pick(0) : sizeof(answer));
    if (lie == LIE_TWICE)
        tell(&answer, sizeof(answer));
}

bool __wrap_block_send_message(int fd, const struct block_message *message, struct error *err)
{
    struct error unsent = ERROR_INIT;

    if (!__real_block_send_message(fd, message, err))
        return false;
    MUST(block_receive_message(w.front_fd, clock_now_ms() + 1000, &w.question, &unsent));
    answer_question();
    return true;
}

/* --- the worker --- */

/* What the worker accepted, the broker has signed for this very question. */
static void expect_signed(const struct worker *worker, enum answer_kind kind,
                          const struct record *record)
{
    struct encoded encoded;
    bool found = false;

    record_encode(record, &encoded);
    for (size_t i = 0; i < w.n_log; i++)
        found = found ||
                (w.log[i].question.kind == kind &&
                 memcmp(w.log[i].question.nonce, w.question.relay.nonce, ANSWER_NONCE_LEN) == 0 &&
                 w.log[i].record.len == encoded.len &&
                 memcmp(w.log[i].record.bytes, encoded.bytes, encoded.len) == 0);
    MUST(found);
    MUST(!w.for_other_boot || kind != ANSWER_OPEN);
    MUST(strcmp(record->volume_id, worker->request->volume_id) == 0);
    MUST(memcmp(record->id, w.volume.record.id, RECORD_ID_LEN) == 0);
    MUST(record->spec.integrity == INTEGRITY_AEGIS128);
    lying_front_accepted++;
}

static bool change(struct worker *worker, const struct record_change *wanted,
                   const uint8_t *close_key, struct deeds *out, struct error *err)
{
    static struct record record;

    if (!worker_ask_change(worker, wanted, close_key, &record, err))
        return false;
    expect_signed(worker, ANSWER_CHANGE, &record);
    out->changes++;
    return true;
}

/* Asks what a stage asks, in its order. */
static bool stage(struct worker *worker, struct volume_secrets *secrets, struct deeds *out,
                  struct error *err)
{
    static struct record record;
    bool read_only = worker->request->read_only;
    uint8_t close_key[CLOSE_KEY_LEN];
    const struct secret *secret = &secrets->own;

    if (!worker_ask_open(worker, &record, secrets, err))
        return false;
    expect_signed(worker, read_only ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN, &record);
    MUST(secret->len == VOLUME_SECRET_LEN &&
         memcmp(secret->bytes, w.volume.secret, VOLUME_SECRET_LEN) == 0);
    out->opened = true;
    out->opened_for_writing = !read_only;
    const struct record_change ready = { .kind = RECORD_CHANGE_READY,
                                         .attempt = record.format.attempt,
                                         .header_digest = { 2 } };
    struct record_change opened = { .kind = RECORD_CHANGE_OPENED };
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    const struct record_change given_up = { .kind = RECORD_CHANGE_CLOSED };

    if (read_only)
        return true;
    if (record.phase == RECORD_FORMATTING) {
        MUST(w.volume.record.phase == RECORD_FORMATTING);
        out->formatted = true;
        if (w.script->format_fails)
            return out->gave_up = change(worker, &given_up, NULL, out, err);
        if (!change(worker, &ready, NULL, out, err))
            return false;
    }
    for (int i = 0; i < 2; i++) {
        opened.open_counter = worker->record.open_counter + 1;
        if (!change(worker, &opened, NULL, out, err))
            return false;
    }
    MUST(close_key_derive(secret, &worker->record, close_key, err));
    return change(worker, &closed, close_key, out, err);
}

static bool act(struct worker *worker, struct deeds *out, struct error *err)
{
    static struct volume_secrets secrets;
    static struct record record;
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };

    if (worker->request->operation == BLOCK_UNSTAGE)
        return change(worker, &closed, NULL, out, err);
    if (w.renews || worker->request->operation == BLOCK_EXPAND) {
        if (!worker_ask_record(worker, &record, err))
            return false;
        expect_signed(worker, w.renews ? ANSWER_RENEW : ANSWER_RECORD, &record);
        MUST(!w.renews || (record.lease.contested == 0 && worker->lease.lease_ms == LEASE_MS));
        out->renewed = w.renews;
        if ((out->grown = !w.renews))
            return true;
    }
    bool staged = w.renews ? (out->opened = worker_ask_open(worker, &record, &secrets, err))
                           : stage(worker, &secrets, out, err);

    volume_secrets_wipe(&secrets);
    return staged;
}

/* --- */

static void make_world(void)
{
    struct error err = ERROR_INIT;

    w.is_made = true;
    boot_id_text(w.boot_id);
    broker_end_make(&w.broker, NULL);
    broker_end_make(&w.impostor, NULL);
    w.config = (struct worker_config){ .driver = DRIVER,
                                       .node = NODE,
                                       .broker = { .names = { 1, { "localhost" } } } };
    MUST(broker_trust_read_ca(&w.config.broker, w.broker.ca_pem, &err) &&
         hpke_generate(&w.config.sealing, false, &err) && hpke_generate(&w.front_key, false, &err));
}

void lying_front_run(enum block_operation operation, bool is_ready, bool read_only,
                     const struct front_script *script, struct deeds *out, struct error *err)
{
    static struct block_request request;
    int ends[2];

    if (!w.is_made)
        make_world();
    request = (struct block_request){ .operation = operation, .read_only = read_only };
    (void)snprintf(request.volume_id, sizeof(request.volume_id), "volume");
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    make_volume(&w.volume, "volume", is_ready);
    make_volume(&w.other, "other", is_ready);
    w.script = script;
    w.at = w.n_questions = w.n_log = 0;
    w.front_fd = ends[0];
    w.read_only = read_only;
    w.renews = operation == BLOCK_RENEW;
    w.for_other_boot = false;
    if ((operation == BLOCK_UNSTAGE || w.renews) && is_ready) { /* this boot has it open */
        memcpy(w.volume.record.lease.holder.boot_id, w.boot_id, sizeof(w.boot_id));
        (void)snprintf(w.volume.record.lease.holder.node, NODE_ID_MAX, NODE);
    }
    if (w.renews) {
        w.volume.record.spec.fencing = w.other.record.spec.fencing = FENCING_SUSPEND;
        w.volume.record.lease.lease_ms = LEASE_MS;
        w.other.record.lease = w.volume.record.lease;
        w.volume.record.lease.contested = script->contested ? w.volume.record.version : 0;
    }
    struct worker worker = { .config = &w.config, .front_fd = ends[1], .request = &request };

    *out = (struct deeds){ .changes = 0 };
    *err = (struct error)ERROR_INIT;
    lying_front_refused += !act(&worker, out, err);
    close(ends[0]);
    close(ends[1]);
}
