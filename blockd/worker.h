/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "base/option.h"
#include "blockd/held_path.h"
#include "blockd/request.h"

struct worker_socket { /* of the front */
    const char *path;  /* NULL: it has none */
    gid_t group;       /* which may use it; 0: root alone */
};

/* --broker-policy: which TDs may be a broker. */
struct broker_demand {
    char *policy; /* its text; NULL: nothing is demanded */
    size_t policy_len;
    uint8_t policy_sha256[SHA256_LEN];
};

/*
 * One operation in a process of its own: it takes the volume's lock, runs the operation, answers
 * and ends. A worker that hangs or crashes costs only this one call.
 */
struct worker_config {
    const char *driver;
    const char *local_dir;
    const char *state_dir;
    struct mount_roots mount_roots;
    struct worker_socket sockets[2];
    const char *upstream;      /* socket of another CSI driver; NULL: none */
    const char *upstream_door; /* where the front reaches it */
    const char *upstream_dir;  /* where it gives us devices (blockd/place.h); NULL: none */
    int front_pid;
    const char *tsm_root, *event_log; /* as in struct attester_options */
    struct hpke_key_pair sealing;
    struct broker_trust broker;  /* whose answers workers accept */
    struct broker_demand demand; /* what these brokers must show, too */
    const char *node;            /* as the broker knows it; NULL: nothing is opened for writing */
};

/* What the broker gave with the record. */
struct volume_secrets {
    struct secret own;
    struct secret next; /* of a record with a rotation; it becomes own when ROTATED is on record */
};
void volume_secrets_wipe(struct volume_secrets *secrets);

/* How long before the end of a lease the volume is stopped: that takes a moment. */
#define LEASE_STOP_MS 5000u

/* This boot's right to write, as far as the broker has signed it. */
struct worker_lease {
    uint64_t lease_ms; /* 0: it is never over, or none was given */
    uint64_t
        asked_ms; /* in clock_boottime_ms() time, before the question was sent: it counts from here */
};

struct worker {
    const struct worker_config *config;
    int front_fd;
    const struct block_request *request;
    struct volume_name name;
    uint64_t deadline_ms; /* monotonic; 0: none. Then the kernel kills the worker. */
    int parent_pid;

    /* What the questions to the broker leave behind. */
    struct block_asked asked;
    bool has_record;
    struct record record;           /* as last accepted */
    struct volume_secrets *secrets; /* the caller's of worker_ask_open(); NULL before */
    struct worker_lease lease;      /* as of the last answer that gave or renewed one */
};

/* What a worker does, in memory that tdvol-blockd shares with it: so the log can name what was lost when
 * a worker is killed. */
struct worker_note {
    pid_t pid; /* 0: free */
    char operation[16], volume_id[VOLUME_ID_MAX + 1];
};
void worker_note_write(struct worker_note *note, const char *operation, const char *volume_id);

/* Never returns. The exit code is 0 when the answer was sent to the front. */
__attribute__((noreturn)) void worker_run(const struct worker_config *config, int front_fd,
                                          int parent_pid, struct worker_note *note);

/* In clock_now_ms() time; 0: never. The kernel kills this process then. */
void worker_set_end(uint64_t deadline_ms);

/* A point at which the operation may stop: CANCELLED when the front closed its end. */
MUST_USE bool worker_check(const struct worker *worker, struct error *err);

/* Milliseconds until the deadline, as a time limit for programs; 0: no deadline. */
uint32_t worker_left_ms(const struct worker *worker);

/*
 * The three questions to the broker, by way of the front (blockd/question.c). Each fails with
 * INTERNAL when the operation may not ask it, or not again (block_may_ask). An answer counts only
 * when the broker signed it for this very question: DENIED with the reason BrokerSignature
 * otherwise. With --broker-policy, that broker must have shown good evidence: see
 * worker_demand_evidence(). A record that is returned was checked, is this volume's, and continues the operation's
 * first one.
 */
/* In BLOCK_RENEW, this renews the lease: the answer gives the volume to this boot of this node. */
MUST_USE bool worker_ask_record(struct worker *worker, struct record *record, struct error *err);

/* Asks for the record with its secrets, which later changes are proved with: they must stay where they are.
 * An answer for writing must give the volume to this boot of this node. In phase FORMATTING the
 * deadline of the format also ends the worker; it counts from the question on. */
MUST_USE bool worker_ask_open(struct worker *worker, struct record *record,
                              struct volume_secrets *secrets, struct error *err);

/* close_key: for a change that needs its proof (record/proof.h); otherwise NULL. record may be
 * NULL. */
MUST_USE bool worker_ask_change(struct worker *worker, const struct record_change *change,
                                const uint8_t *close_key, struct record *record, struct error *err);

/*
 * With --broker-policy: the broker that signs with this key must have shown what it runs, in the last hour
 * (appraisal/note.h). Where it has not, this asks it for its evidence, once for all workers. Every
 * answer of a broker goes through here before anything in it is used, and so does a quote of ours that
 * a broker shall have. DENIED with the reason BrokerEvidence when it is refused, UNAVAILABLE when it
 * could not be had. is_early: makes an older note again, if that is possible.
 */
MUST_USE bool worker_demand_evidence(struct worker *worker,
                                     const uint8_t key_sha256[static KEY_SHA256_LEN], bool is_early,
                                     struct error *err);

MUST_USE bool worker_event(const struct worker *worker, enum block_event_kind kind,
                           const char *volume_id, uint64_t count, struct error *err);

/* Sends the bytes in as many BLOCK_DATA messages as needed. */
MUST_USE bool worker_data(const struct worker *worker, enum block_data_part part,
                          const uint8_t *bytes, size_t len, struct error *err);

/* Between these two calls neither the deadline nor blockd's death ends this process. */
void worker_enter_critical(const struct worker *worker);
void worker_leave_critical(const struct worker *worker);

MUST_USE bool worker_lock(const struct worker *worker, const struct volume_name *name, bool wait,
                          int *out_fd, struct error *err);
