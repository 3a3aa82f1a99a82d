/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/binding.h"
#include "base/error.h"
#include "crypt/volume.h"
#include "record/encoding.h"
#include "record/sealing.h"

#include <linux/limits.h>

/*
 * The typed requests between the unprivileged front (tdvol-csi) and the workers of tdvol-blockd.
 *
 * The front makes a SOCK_SEQPACKET pair for each operation, sends one end to tdvol-blockd over the
 * control socket (one byte of data and SCM_RIGHTS) and keeps the other. tdvol-blockd gives it to
 * a fresh worker. Then on that pair: one block_request; any number of block_message, of which
 * BLOCK_ASK_... are each answered by one block_answer; the last message is BLOCK_DONE. Closing the
 * front's end cancels: the worker stops at the next safe point. Plain structs of one build, fixed
 * sizes, but for records and changes, which are encoded (record/encoding.h); the receiver checks
 * size, kind, termination of every string and every enum.
 */

#define BLOCK_PATH_MAX  PATH_MAX
#define BLOCK_FLAGS_MAX 4096
#define BLOCK_FS_ANY    "*" /* STAGE, PUBLISH: the file system that the volume was made for */

enum block_operation {
    BLOCK_STAGE = 1, /* lock, attach, open or format, fsck, mount: path = staging path */
    BLOCK_UNSTAGE,   /* unmount, close, detach; needs neither key nor broker */
    BLOCK_PUBLISH,   /* bind mount, or bind the device node: path = target, path2 = staging */
    BLOCK_UNPUBLISH, /* unmount and remove the target: path */
    BLOCK_STATS,     /* statvfs or device size: path = volume path; NOT_FOUND when not there */
    BLOCK_EXPAND,   /* grow device, mapping, file system to the record's size: path = volume path */
    BLOCK_FINISH,   /* hydration is complete: have it recorded, then swap to the linear table */
    BLOCK_INSPECT,  /* volume_status of one volume */
    BLOCK_CREATE,   /* local backing file of size_bytes; reserve = fallocate */
    BLOCK_DELETE,   /* local backing file; FAILED_PRECONDITION while staged */
    BLOCK_COPY,     /* backing file volume_id to copy_id; suspends a staged source */
    BLOCK_RESIZE,   /* grow the local backing file (and its loop device) to size_bytes */
    BLOCK_CAPACITY, /* free bytes below the local folder */
    BLOCK_WATCH,    /* never ends: BLOCK_EVENT messages until the front closes */
    BLOCK_PROBE,    /* kernel targets and ciphers present, file-system tools */
    BLOCK_UNLINK,   /* removes a unix socket that the front bound as root: path */
    BLOCK_ATTEST,   /* evidence as BLOCK_DATA messages, over the keys in attest and our own */
    BLOCK_OPERATION_COUNT
};

/* What the front knows of a binding (attest/binding.h). The sealing key is the worker's to add: the
 * front cannot have a quote made over bytes of its choice. */
struct block_attest {
    uint8_t nonce[BINDING_LEN];
    uint8_t client_key_sha256[BINDING_LEN];
    uint8_t broker_key_sha256[BINDING_LEN];
};

struct block_request {
    uint32_t operation;   /* enum block_operation */
    uint64_t deadline_ms; /* monotonic; 0: none. The worker kills itself before it. */
    char volume_id[VOLUME_ID_MAX + 1];
    char copy_id[VOLUME_ID_MAX + 1];
    char path[BLOCK_PATH_MAX];
    char path2[BLOCK_PATH_MAX];
    char fs_type[FS_TYPE_MAX + 1];     /* "" for raw block */
    char mount_flags[BLOCK_FLAGS_MAX]; /* comma-separated */
    bool read_only;
    bool reserve;
    bool exclusive; /* PUBLISH: FAILED_PRECONDITION when it is published at another target */
    uint64_t size_bytes;
    struct block_attest attest; /* ATTEST */
};

enum block_message_kind {
    BLOCK_ASK_RECORD = 1, /* the record alone */
    BLOCK_ASK_OPEN,   /* the record with its secret, sealed; the volume is open here from then on */
    BLOCK_ASK_CHANGE, /* change is to be recorded */
    BLOCK_EVENT,      /* from BLOCK_WATCH */
    BLOCK_DATA,       /* from BLOCK_ATTEST: data is the next piece of one of its parts */
    BLOCK_DONE,       /* ok or err, and the result */
};

/* What a worker may ask for its operation, and nothing else: the root side asks no more, and the front
 * answers no more. change is looked at for BLOCK_ASK_CHANGE alone. */
bool block_may_ask(enum block_operation operation, enum block_message_kind question,
                   enum record_change_kind change);

enum block_event_kind {
    BLOCK_EVENT_STAGED = 1,      /* volume_id is staged here */
    BLOCK_EVENT_HYDRATED,        /* all regions of volume_id are done: send BLOCK_FINISH */
    BLOCK_EVENT_PROGRESS,        /* done of total regions */
    BLOCK_EVENT_FAILED,          /* the map failed; the error target is in place */
    BLOCK_EVENT_INTEGRITY_ERROR, /* done = authentication errors seen since the last event */
    BLOCK_EVENT_OVERFLOW,        /* read-only overlay ran full */
};

enum block_data_part { BLOCK_DATA_QUOTE = 1, BLOCK_DATA_EVENT_LOG };

#define BLOCK_DATA_MAX 4096
struct block_data {
    uint32_t part; /* enum block_data_part */
    uint32_t len;  /* 1 to BLOCK_DATA_MAX */
    uint8_t bytes[BLOCK_DATA_MAX];
};

struct block_stats {
    bool is_block;
    uint64_t total_bytes, used_bytes, available_bytes;
    uint64_t total_inodes, used_inodes, available_inodes;
};

struct block_probe {
    bool crypt, integrity, clone, snapshot, aegis128, hmac_sha256, ext4, xfs;
    char missing[256]; /* for people: what is not there and what it is needed for; may be "" */
};

struct block_result {
    bool already;        /* it was so before (idempotent call) */
    uint64_t size_bytes; /* CREATE, RESIZE: of the file; EXPAND, INSPECT: exposed; CAPACITY: free */
    struct block_stats stats;
    struct block_probe probe;
    struct volume_status status;
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN]; /* ATTEST: the one that the quote speaks for */
};

struct block_message {
    uint32_t kind;  /* enum block_message_kind */
    uint32_t event; /* enum block_event_kind */
    bool ok;        /* BLOCK_DONE */
    struct error err;
    char volume_id[VOLUME_ID_MAX + 1]; /* BLOCK_EVENT */
    uint64_t done, total;
    struct encoded change;                       /* BLOCK_ASK_CHANGE: struct record_change */
    struct block_result result;                  /* BLOCK_DONE */
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN]; /* BLOCK_ASK_OPEN */
    struct block_data data;                      /* BLOCK_DATA */
};

struct block_answer {
    bool ok;
    struct error err;
    struct encoded record;
    struct sealed_secret secret; /* to BLOCK_ASK_OPEN only */
};

/* Each sends or receives one whole packet. Receiving validates; INVALID_ARGUMENT when it is not
 * what it should be, CANCELLED when the other end is closed. deadline_ms 0: wait for ever. */
MUST_USE bool block_send_request(int fd, const struct block_request *request, struct error *err);
MUST_USE bool block_receive_request(int fd, struct block_request *out, struct error *err);
MUST_USE bool block_send_message(int fd, const struct block_message *message, struct error *err);
MUST_USE bool block_receive_message(int fd, uint64_t deadline_ms, struct block_message *out,
                                    struct error *err);
MUST_USE bool block_send_answer(int fd, const struct block_answer *answer, struct error *err);
MUST_USE bool block_receive_answer(int fd, struct block_answer *out, struct error *err);

/* Control socket: the front passes its worker's end (closed here on success). */
MUST_USE bool block_send_operation(int control_fd, int worker_fd, struct error *err);
/* CANCELLED when the front is gone. */
MUST_USE bool block_receive_operation(int control_fd, int *out_worker_fd, struct error *err);
