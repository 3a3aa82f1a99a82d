/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/quote.h"
#include "base/arena.h"
#include "plugin/plugin.h"
#include "tests/unit/record/broker_end.h"

#include <pthread.h>

/*
 * A plugin with a fake broker and fake workers, all in memory. Both fakes do what the real ones
 * promise, as far as the plugin can see it, and fail where a test says so.
 */

#define FAKE_MAX       32
#define FAKE_QUOTE_LEN 1226

#define FAKE_ANY "*"
struct fake_fault {
    const char *at; /* method or operation, or FAKE_ANY; NULL: none */
    enum error_code code;
    const char *reason;
    unsigned after; /* number of calls that succeed first */
    bool is_lost;   /* the work is done, but the answer does not arrive */
    bool is_single; /* the call after the fault succeeds again */
};

struct fake_record {
    char id[VOLUME_ID_MAX + 1];
    struct record record;
    bool is_present;
};

/* A copy that was begun and has not ended. */
struct fake_copying {
    char source[VOLUME_ID_MAX + 1], name[RECORD_NAME_MAX + 1];
    enum record_kind kind;
    uint64_t version; /* 0: unused */
};

struct fake_volume {
    char id[VOLUME_ID_MAX + 1];
    uint64_t bytes;
    bool has_file, is_staged, read_only;
    char fs_type[16], staging[256];
    char targets[4][256];
};

struct fake;
struct fake_keys {
    struct keys keys;
    struct fake *fake;
};
extern const struct keys_ops fake_keys_ops;

struct fake {
    pthread_mutex_t lock;
    struct fake_record records[FAKE_MAX];
    struct fake_volume volumes[FAKE_MAX];
    struct fake_copying copying[FAKE_MAX];
    struct fake_fault fault;
    /* Runs after the raw space was copied and before its record is made: may change the source. */
    void (*after_copy)(struct fake *fake);
    /* Called when the broker is asked, with the lock. */
    void (*asked)(struct fake *fake, const char *method);
    /* Called on the worker's side of an operation, without the lock. */
    void (*during)(struct fake *fake, const struct block_request *request);
    /* Called with true when the fake begins to work, with false when the plugin's code goes on. */
    void (*working)(bool is_working);
    char log[64][48]; /* what was called, in order */
    size_t n_log;
    uint64_t free_bytes;
    bool is_empty;      /* the folder of the volumes */
    bool takes_no_mark; /* the disk does not take the mark of a close */
    uint64_t last_deadline_ms;
    uint64_t call_ms;          /* time of each fake_call; 0: no deadline */
    struct block_request last; /* of the last operation */
    /* All workers share it. The quote is bound to it, and the broker seals to no other key. */
    uint8_t sealing_public_key[HPKE_PUBLIC_LEN];
    void (*distort_quote)(struct fake *fake, uint8_t quote[static FAKE_QUOTE_LEN]);
    size_t event_log_len;

    /* Both ends of what passes the plugin unread: one secret for all volumes. */
    struct broker_end broker;
    struct broker_trust trust; /* of the workers */
    uint8_t secret[VOLUME_SECRET_LEN];

    const char *boot_id; /* of the node now */
    unsigned n_made;     /* records, for ids of their own */
    struct fake_keys keys;
    struct plugin plugin;
};

struct fake *fake_new(void);
void fake_free(struct fake *fake);

struct fake_record *fake_record(struct fake *fake, const char *id); /* NULL when there is none */
/* NULL: that copy was not begun; "" as the source gives a free place. */
struct fake_copying *fake_copying(struct fake *fake, const char *source,
                                  const struct keys_copy *wanted);
void fake_end_copying(struct fake *fake, const char *source_id, const struct keys_copy *wanted);
struct fake_volume *fake_volume(struct fake *fake, const char *id);

/* Whether the calls so far contain these names in this order; other calls may lie between. NULL
 * ends the list. */
bool fake_called(const struct fake *fake, const char *const *names);
size_t fake_count(const struct fake *fake, const char *name);

/* The smallest quote with this report data, without a valid signature; FAKE_QUOTE_LEN bytes. */
void fake_quote(const uint8_t report_data[static REPORT_DATA_LEN],
                uint8_t out[static FAKE_QUOTE_LEN]);

/* For the parts of the fake. */
void fake_note(struct fake *fake, const char *name);
void fake_work(const struct fake *fake, bool is_working);
bool fake_is_faulty(struct fake *fake, const char *name, struct error *err);
bool fake_run(void *cookie, const struct block_run *run, struct block_result *out,
              struct error *err);

/* Calls a handler as gRPC would, through bytes and dispatch. The response is from the arena; NULL
 * when the call failed. */
void *fake_call(struct fake *f, const struct rpc_service *service, const char *name,
                const void *request, struct arena *arena, struct error *err);

/* One call may wait for a busy volume; without this, none may. No call may be in flight. */
void fake_let_one_wait(struct fake *fake);
/* For a thread: gives a struct inflight_hold back after a moment, and returns it. */
void *fake_release_soon(void *hold);

/* Requests that a test may change. Each thread has storage for one request of each kind. */
Csi__V1__VolumeCapability *fake_mount(const char *fs_type);
Csi__V1__VolumeCapability *fake_block(void);
Csi__V1__VolumeCapability *fake_block_reader(void);
Csi__V1__CreateVolumeRequest *fake_create(const char *name, int64_t bytes,
                                          Csi__V1__VolumeCapability *capability);
Csi__V1__VolumeContentSource *fake_source(enum record_kind kind, const char *id);

/* Adds to the last fake_create. */
void fake_parameter(Csi__V1__CreateVolumeRequest *request, const char *key, const char *value);
