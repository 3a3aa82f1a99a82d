/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/opening.h"

#include "attest/trust_root.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "broker/backup.h"
#include "broker/handlers.h"
#include "broker/rewrap.h"
#include "erasure/sweep.h"
#include "store/keyring.h"

#include <stdlib.h>
#include <string.h>
#include <tdvol_config.h>
#include <unistd.h>

#define TOLD_MARK       "restored-told" /* of raise: the restore that is in an audit log */
#define UNSEAL_TEXT_MAX 256u            /* bytes; more than a key or share has */

struct opening {
    struct opening_options options;
    struct secret audit_root;  /* of --audit-key; empty: from the master key */
    struct secret master, old; /* until the broker is open */
    struct audit *audit;
};

static bool read_audit_key(struct opening *o, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT, key = SECRET_INIT;
    const char *path = o->options.audit_key;

    return !path ||
           (file_read_private(path, MASTER_KEY_TEXT_MAX, &text, err) &&
            master_key_parse(&text, &key, err) &&
            seal_derive(&key, SEAL_AUDIT_ROOT, &o->audit_root, err)) ||
           error_wrap(err, "%s", path);
}

bool opening_new(const struct opening_options *options, struct opening **out, struct error *err)
{
    struct opening *o = calloc(1, sizeof(*o));

    if (!o)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    o->options = *options;
    if (!read_audit_key(o, err)) {
        opening_free(&o);
        return false;
    }
    *out = o;
    return true;
}

void opening_free(struct opening **opening)
{
    struct opening *o = *opening;

    if (!o)
        return;
    sweep_stop(&o->options.broker->sweep);
    rewrap_stop(&o->options.broker->rewrap);
    audit_close(&o->audit);
    secret_wipe(&o->audit_root);
    secret_wipe(&o->master);
    secret_wipe(&o->old);
    free(o);
    *opening = NULL;
}

bool opening_record(struct opening *opening, const char *event, const struct policy *policy,
                    struct error *err)
{
    const struct log_field fields[] = {
        TEXT("event", event),
        TEXT("broker", TDVOL_VERSION),
        TEXT("replica", opening->options.broker->replica),
        TEXT("policy", policy_hash(policy)),
        TEXT("policy_revision", policy_revision(policy)),
        TEXT("root", trust_root_default == &trust_root_intel ? "" : "TEST ROOT, NOT INTEL'S"),
    };

    return audit_write(opening->audit, fields, ARRAY_LEN(fields), NULL, err);
}

/* Takes over held. */
static bool open_audit(struct opening *o, int held, struct error *err)
{
    auto_secret struct secret derived = SECRET_INIT, head = SECRET_INIT;
    const struct audit_options options = { .path = o->options.audit_path,
                                           .store = o->options.broker->store,
                                           .head_key = &head,
                                           .replica = o->options.broker->replica,
                                           .root = o->audit_root.bytes ? &o->audit_root : &derived,
                                           .held_fd = held };

    if ((!o->audit_root.bytes && !seal_derive(&o->master, SEAL_AUDIT_ROOT, &derived, err)) ||
        !keyring_audit_head_key(o->options.broker->keyring, &head, err)) {
        (void)close(held);
        return false;
    }
    return audit_open(&options, &o->audit, err) &&
           opening_record(o, "start", o->options.broker->policy, err);
}

/* The broker opens all the same: records that are good must not wait for those that are not. */
static bool report_store(struct opening *o, struct error *err)
{
    const struct store_check *check = &o->options.broker->check;
    const struct log_field fields[] = {
        TEXT("event", "store-changed"),
        TEXT("note", "the store does not hold what the broker left in it: records were changed, "
                     "put back or taken away, or an older audit head was put back"),
        TEXT("first", check->first_damage.text),
        NUMBER("damaged", check->damaged),
        NUMBER("records", check->records),
    };

    if (!check->is_changed && check->damaged == 0)
        return true;
    log_write(LOG_ERROR, "the store was changed by something else than this broker", fields + 2,
              ARRAY_LEN(fields) - 2);
    return audit_write(o->audit, fields, ARRAY_LEN(fields), NULL, err);
}

/* Once, by whichever broker of the store comes first. */
static bool report_restore(struct opening *o, struct error *err)
{
    const struct broker *broker = o->options.broker;
    const struct store_ops *ops = broker->store->ops;
    uint64_t told = 0, ignored = 0;
    char when[CLOCK_TEXT_LEN];

    if (broker->restored_ms == 0)
        return true;
    clock_text(broker->restored_ms, when);
    log_warning("the store was restored from a backup: administrators say which records are true",
                TEXT("restored", when));
    if (!ops->raise(broker->store, TOLD_MARK, 0, &told, err))
        return false;
    const struct log_field fields[] = { TEXT("event", "restored"), TEXT("restored", when) };

    return told >= broker->restored_ms ||
           (audit_write(o->audit, fields, ARRAY_LEN(fields), NULL, err) &&
            ops->raise(broker->store, TOLD_MARK, broker->restored_ms, &ignored, err));
}

static bool start_sweep(struct opening *o, struct error *err)
{
    struct broker *broker = o->options.broker;
    const struct sweep_options options = { .store = broker->store,
                                           .keyring = broker->keyring,
                                           .audit = o->audit,
                                           .replica = broker->replica,
                                           .now_ms = broker->now_ms,
                                           .steady_ms = broker->steady_ms };

    return sweep_start(&options, &broker->sweep, err);
}

static bool open_with_key(struct opening *o, struct error *err)
{
    struct broker *broker = o->options.broker;
    auto_close int held = -1;

    /* The log first: it shows that no other process is this replica. Whoever unlocks the store takes the
     * replica's name away from a process that has it. */
    if (!audit_hold(o->options.audit_path, &held, err) ||
        !broker_unlock(broker, &o->master, &o->old, err) || !open_audit(o, TAKE_FD(held), err) ||
        !report_store(o, err) || !report_restore(o, err) || !backups_read_time(broker, err) ||
        !rewrap_start(broker, o->audit, &broker->rewrap, err))
        return false;
    if (!start_sweep(o, err)) {
        rewrap_stop(&broker->rewrap);
        return false;
    }
    secret_wipe(&o->master); /* the keyring has them */
    secret_wipe(&o->old);
    broker_open(broker, o->audit);
    return true;
}

bool unseal(struct judged_call *s, struct rpc_call *call, const M(UnsealRequest) * request,
            M(UnsealResponse) * response, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT;
    struct master_progress progress = { .have = 0 };
    const char *who = s->caller.who.certificate ? s->caller.who.certificate->common_name : "";

    (void)call;
    if (broker_is_open(s->broker))
        return error_set(err, ERROR_FAILED_PRECONDITION, "the broker is open already");
    if (request->key.len == 0 || request->key.len > UNSEAL_TEXT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "key has %zu bytes, not 1 to %u",
                         request->key.len, UNSEAL_TEXT_MAX);
    if (!secret_alloc(&text, request->key.len, err))
        return false;
    memcpy(text.bytes, request->key.data, text.len);
    if (!master_source_add(s->broker->unsealing, &text, &progress, err)) {
        log_warning("a part of the master key was refused", TEXT("rule", policy_rule_name(s->rule)),
                    TEXT("cn", who), ERROR_FIELDS(err));
        return false;
    }
    log_info("a part of the master key came", TEXT("rule", policy_rule_name(s->rule)),
             TEXT("cn", who), NUMBER("have", progress.have), NUMBER("need", progress.need));
    struct error why = ERROR_INIT;
    (void)master_progress_say(&progress, &why);
    broker_say_sealed(s->broker, why.text);
    response->have = progress.have;
    response->need = progress.need;
    return true;
}

/* A source that gave none has refused nothing: whoever brings a key meanwhile looks at that count. */
static void drop_key(struct opening *o, struct error *err)
{
    const bool has_key = o->master.bytes != NULL;

    if (has_key)
        master_source_refuse(o->options.source, err);
    secret_wipe(&o->master);
    secret_wipe(&o->old);
    error_wrap(err, "master key");
    if (has_key)
        broker_refuse_key(o->options.broker, err);
}

static bool get_keys(struct opening *o, struct error *err)
{
    struct master_source *old = o->options.old;

    return (o->master.bytes || master_source_get(o->options.source, &o->master, err)) &&
           (!old || o->old.bytes || master_source_get(old, &o->old, err) ||
            error_wrap(err, "--old-master-key"));
}

bool opening_try(struct opening *opening, struct error *err)
{
    struct opening *o = opening;

    if (broker_is_open(o->options.broker))
        return true;
    if (get_keys(o, err) && open_with_key(o, err))
        return true;
    audit_close(&o->audit);
    if (err->code != ERROR_UNAVAILABLE) /* otherwise the key is tried again with the store */
        drop_key(o, err);
    broker_say_sealed(o->options.broker, err->text);
    return false;
}
