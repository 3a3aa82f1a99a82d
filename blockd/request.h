/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/binding.h"
#include "base/error.h"
#include "base/grpc_call.h"
#include "blockd/relay.h"
#include "crypt/volume.h"
#include "record/encoding.h"
#include "record/sealing.h"

#include <linux/limits.h>

/*
 * The typed requests between the unprivileged front (tdvol-csi) and the workers of tdvol-blockd.
 *
 * For each operation the front makes a SOCK_SEQPACKET pair. It keeps one end and sends the other to
 * tdvol-blockd over the control socket (one byte of data and SCM_RIGHTS); tdvol-blockd gives it to
 * a fresh worker. On the pair the front sends one block_request. The worker sends any number of
 * block_message; the front answers each BLOCK_ASK_... with one block_answer. The last message is
 * BLOCK_DONE. To cancel, the front closes its end: the worker stops at the next safe point.
 *
 * Packets are plain structs of fixed size; both sides are from one build. Only records and changes
 * are encoded (record/encoding.h). The receiver checks the size, the kind, every enum, and that
 * every string ends.
 */

#define BLOCK_PATH_MAX  PATH_MAX
#define BLOCK_FLAGS_MAX 4096
#define BLOCK_FS_ANY    "*" /* STAGE, PUBLISH: whatever file system the record names */

enum block_operation {
    BLOCK_STAGE = 1, /* lock, attach, open or format, fsck, mount: path = staging path */
    BLOCK_UNSTAGE,   /* unmount, close, detach; needs neither key nor broker */
    BLOCK_PUBLISH,   /* bind mount, or bind the device node: path = target, path2 = staging */
    BLOCK_UNPUBLISH, /* unmount and remove the target: path */
    BLOCK_STATS,    /* statvfs or device size: path = volume path; NOT_FOUND when it is not there */
    BLOCK_EXPAND,   /* grow device, mapping, file system to the record's size: path = volume path */
    BLOCK_INSPECT,  /* volume_status of one volume */
    BLOCK_CREATE,   /* local backing file of size_bytes; reserve = fallocate */
    BLOCK_DELETE,   /* local backing file; FAILED_PRECONDITION while staged */
    BLOCK_COPY,     /* backing file volume_id to copy_id; suspends a staged source */
    BLOCK_RESIZE,   /* grow the local backing file (and its loop device) to size_bytes */
    BLOCK_CAPACITY, /* free bytes of the local folder */
    BLOCK_WATCH,    /* never ends: BLOCK_EVENT messages until the front closes */
    BLOCK_PROBE,    /* which kernel targets, ciphers and file-system tools are present */
    BLOCK_UNLINK,   /* remove a unix socket that the front bound as root: path */
    BLOCK_SOCKET,   /* listen again at a socket whose file is gone: path, one of the front's own */
    BLOCK_PLACE,   /* make the places (blockd/place.h) for another driver's device of this volume */
    BLOCK_UNPLACE, /* remove them; FAILED_PRECONDITION while something is mounted there */
    BLOCK_GROWN,   /* wait until the device of this volume has size_bytes; else INTERNAL */
    BLOCK_FORWARD, /* never ends: the front's way to another driver's socket, see forward.c */
    BLOCK_UPSTREAM_READ, /* ask another driver what it is and can do: BLOCK_DATA is its answer */
    BLOCK_UPSTREAM_CALL, /* have it attach, detach or grow the device of this volume */
    BLOCK_ROTATE, /* the next secret for a volume that is staged for writing; already: there is none */
    BLOCK_RENEW, /* the lease of a volume that is staged for writing; one that was withheld goes on */
    BLOCK_ATTEST, /* evidence as BLOCK_DATA messages, for the keys in attest and our own */
    BLOCK_OPERATION_COUNT
};

/* The part of a binding (attest/binding.h) that the front knows. The worker adds the sealing key,
 * so the front cannot have a quote made over bytes of its choice. */
struct block_attest {
    uint8_t nonce[BINDING_LEN];
    uint8_t client_key_sha256[BINDING_LEN];
    uint8_t broker_key_sha256[BINDING_LEN];
};

/* The calls of another driver's node plugin (blockd/upstream_call.h). */
enum block_upstream_method {
    BLOCK_GET_PLUGIN_INFO = 1, /* UPSTREAM_READ from here on */
    BLOCK_GET_PLUGIN_CAPABILITIES,
    BLOCK_PROBE_PLUGIN,
    BLOCK_NODE_GET_CAPABILITIES,
    BLOCK_NODE_GET_INFO,
    BLOCK_NODE_STAGE, /* UPSTREAM_CALL from here on */
    BLOCK_NODE_PUBLISH,
    BLOCK_NODE_UNPUBLISH,
    BLOCK_NODE_UNSTAGE,
    BLOCK_NODE_EXPAND,
    BLOCK_UPSTREAM_METHOD_COUNT
};

/* "/csi.v1.Node/NodeStageVolume"; NULL for 0 and other numbers without a method. */
const char *block_upstream_path(enum block_upstream_method method);

struct block_upstream {
    uint32_t method;      /* enum block_upstream_method */
    uint32_t access_mode; /* CSI's number; for methods that name a capability */
    uint32_t body_len;    /* the packet after the request: what the front says; 0: there is none */
    bool stages;          /* the driver has NodeStageVolume */
};

struct block_request {
    uint32_t operation;   /* enum block_operation */
    uint64_t deadline_ms; /* monotonic; 0: none. The kernel kills the worker then. */
    char volume_id[VOLUME_ID_MAX + 1];
    char copy_id[VOLUME_ID_MAX + 1];
    char path[BLOCK_PATH_MAX];
    char path2[BLOCK_PATH_MAX];
    char fs_type[FS_TYPE_MAX + 1];     /* "" for raw block */
    char mount_flags[BLOCK_FLAGS_MAX]; /* comma-separated */
    bool read_only;
    bool reserve;
    bool exclusive; /* PUBLISH: FAILED_PRECONDITION when another target is published */
    uint64_t size_bytes;
    struct block_attest attest;     /* ATTEST */
    struct block_upstream upstream; /* UPSTREAM_... */
};

#define BLOCK_BODY_MAX ((size_t)64 * 1024)

enum block_message_kind {
    BLOCK_ASK_RECORD = 1, /* the record alone; from BLOCK_RENEW: with the lease renewed */
    BLOCK_ASK_OPEN,     /* the record and its sealed secret; from then on the volume is open here */
    BLOCK_ASK_CHANGE,   /* asks for change to be recorded */
    BLOCK_ASK_EVIDENCE, /* of the broker that signs with broker_key_sha256, over the relay's nonce */
    BLOCK_EVENT,        /* from BLOCK_WATCH */
    BLOCK_DATA,         /* from BLOCK_ATTEST, BLOCK_UPSTREAM_READ: the next piece of something */
    BLOCK_DONE,         /* ok or err, and the result */
};

/* How often one operation asked each question so far. */
struct block_asked {
    uint8_t record, open, evidence, changes[RECORD_CHANGE_KIND_COUNT];
};

/* Which questions an operation may ask, and how often. The worker sends no others, and the front
 * answers no others. change only matters for BLOCK_ASK_CHANGE. True counts the question. */
bool block_may_ask(enum block_operation operation, enum block_message_kind question,
                   enum record_change_kind change, struct block_asked *asked);

enum block_event_kind {
    BLOCK_EVENT_FAILED = 1,      /* the map failed; the error target is in place */
    BLOCK_EVENT_INTEGRITY_ERROR, /* count: authentication errors since the last event */
    BLOCK_EVENT_OVERFLOW,        /* the overlay of a read-only open is full */
    BLOCK_EVENT_SHUT_DOWN,       /* the file system stopped after an error */
    BLOCK_EVENT_READ_ONLY,       /* the kernel made the file system read-only after an error */
    BLOCK_EVENT_WRITE_FAILED,    /* something did not reach the disk */
    BLOCK_EVENT_DEVICE_GONE, /* the raw device has left this node; the layers are replaced by errors */
    BLOCK_EVENT_LEASE_DUE,  /* BLOCK_RENEW is to be run; comes again until it was */
    BLOCK_EVENT_LEASE_OVER, /* no renewal came in time: the volume is withheld, or failed */
    BLOCK_EVENT_END
};

enum block_data_part { BLOCK_DATA_QUOTE = 1, BLOCK_DATA_EVENT_LOG, BLOCK_DATA_ANSWER };

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
    bool aegis128, hmac_sha256, none; /* the modes of integrity that can be opened */
    bool thin, snapshot, ext4, xfs;
    char missing[384]; /* for people: what is missing and what needs it; may be "" */
};

/* How another driver answered. Nothing of it was looked at as root. */
struct block_upstream_answer {
    uint32_t status; /* gRPC's number; 0: OK */
    char text[GRPC_CALL_TEXT_MAX];
};

#define BLOCK_HOLDER_MAX 256
#define BLOCK_FDS_MAX    2
struct block_result {
    bool already;        /* nothing to do: an earlier call did it */
    uint64_t size_bytes; /* CREATE, RESIZE: of the file; EXPAND, INSPECT: exposed; CAPACITY: free */
    bool is_empty;       /* CAPACITY: the folder */
    bool has_place;      /* UNSTAGE, INSPECT: places for another driver exist, UNPLACE is to come */
    bool is_gone;        /* INSPECT: the device below an active volume has left this node */
    bool has_device;     /* INSPECT: an active volume lies on the device at its place */
    /* STAGE, UNSTAGE: who had the file system, too, and lost it (staged_take_away()); "": nobody */
    char holder[BLOCK_HOLDER_MAX];
    struct block_stats stats;
    struct block_probe probe;
    struct volume_status status;
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN]; /* ATTEST: the key for which the quote speaks */
    struct block_upstream_answer upstream;       /* UPSTREAM_... */
    /* SOCKET: the listening socket, and its file (O_PATH). They travel with BLOCK_DONE; the receiver
     * owns its own ones. */
    uint32_t n_fds; /* 0 or BLOCK_FDS_MAX */
    int fds[BLOCK_FDS_MAX];
};

struct block_message {
    uint32_t kind;  /* enum block_message_kind */
    uint32_t event; /* enum block_event_kind */
    bool ok;        /* BLOCK_DONE */
    struct error err;
    char volume_id[VOLUME_ID_MAX + 1];           /* BLOCK_EVENT */
    uint64_t count;                              /* BLOCK_EVENT_INTEGRITY_ERROR */
    struct encoded change;                       /* BLOCK_ASK_CHANGE: struct record_change */
    struct block_result result;                  /* BLOCK_DONE */
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN]; /* BLOCK_ASK_OPEN */
    uint8_t broker_key_sha256[KEY_SHA256_LEN];   /* BLOCK_ASK_EVIDENCE */
    struct relay_question relay;                 /* BLOCK_ASK_... */
    struct block_data data;                      /* BLOCK_DATA */
};

struct block_answer {
    bool ok;
    struct error err;
    struct encoded record;
    struct sealed_secret secret; /* only in the answer to BLOCK_ASK_OPEN */
    struct broker_signature signature;
    struct broker_evidence_size evidence; /* to BLOCK_ASK_EVIDENCE: it follows in pieces */
};

/* Each sends or receives one whole packet. Receiving also checks it: INVALID_ARGUMENT when it is
 * not valid, CANCELLED when the other end is closed. deadline_ms 0: wait without limit. Sending a
 * message leaves its descriptors open. */
MUST_USE bool block_send_request(int fd, const struct block_request *request, struct error *err);
MUST_USE bool block_receive_request(int fd, struct block_request *out, struct error *err);
/* The packet that follows a request with upstream.body_len. */
MUST_USE bool block_send_body(int fd, const uint8_t *bytes, size_t len, struct error *err);
MUST_USE bool block_receive_body(int fd, uint8_t *out, size_t len, struct error *err);
MUST_USE bool block_send_message(int fd, const struct block_message *message, struct error *err);
MUST_USE bool block_receive_message(int fd, uint64_t deadline_ms, struct block_message *out,
                                    struct error *err);
void block_close_descriptors(struct block_result *result);
MUST_USE bool block_send_answer(int fd, const struct block_answer *answer, struct error *err);
MUST_USE bool block_receive_answer(int fd, struct block_answer *out, struct error *err);
/* The pieces that follow an answer with evidence: their sizes follow from its sizes alone, so a piece of
 * another size, or one too many, is noticed. Receiving allocates out->bytes, and waits until deadline_ms for
 * all of them. */
MUST_USE bool block_send_evidence(int fd, const struct broker_evidence *evidence,
                                  struct error *err);
MUST_USE bool block_receive_evidence(int fd, const struct broker_evidence_size *size,
                                     uint64_t deadline_ms, struct broker_evidence *out,
                                     struct error *err);
/* DEADLINE_EXCEEDED when there is nothing to receive in time. */
MUST_USE bool block_wait(int fd, uint64_t deadline_ms, struct error *err);

/* On the control socket: the front passes the worker's end, which is closed here on success. */
MUST_USE bool block_send_operation(int control_fd, int worker_fd, struct error *err);
/* CANCELLED when the front is gone. */
MUST_USE bool block_receive_operation(int control_fd, int *out_worker_fd, struct error *err);
