/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store.h"

/*
 * The file of a backup: what a broker's store held at one moment. Secrets in it are wrapped as in the
 * store; names, sizes and times of volumes are in clear. A MAC over all of it, under a key from the
 * master key, shows that a broker wrote it, and all of it.
 *
 *   16  "tdvol backup 01\n", the version of the form
 *   32  seal_mark() of the master key
 *       entries: type (1 byte), length (u32, little-endian as all numbers), bytes
 *         'H'  struct backup_head, by a table of fields; the first entry, and only that
 *         'R'  1 and the wrapped key (60), or 0; then the record in its canonical form
 *         'M'  mark (32), name: a mark of remember
 *         'N'  value (u64), name: a mark of raise
 *         'E'  number of 'R', of 'M' and of 'N' (u64 each); the last entry
 *   32  HMAC-SHA256 over the SHA-256 of all before it; key: seal_derive(BACKUP_KEY)
 */
#define BACKUP_KEY         "tdvol v1 backup"
#define BACKUP_ID_LEN      16
#define BACKUP_MAC_LEN     32
#define BACKUP_VERSION_MAX 63
#define BACKUP_REPLICA_MAX 63
#define BACKUP_NAME_MAX    255 /* of a mark */

struct backup_head {
    uint8_t id[BACKUP_ID_LEN]; /* random */
    uint64_t created_ms;       /* the broker's clock, since 1970: before the moment of the store */
    uint64_t restored_ms;      /* of the store itself, when it came out of a backup; or 0 */
    char version[BACKUP_VERSION_MAX + 1]; /* of the broker */
    char store[16];                       /* kind of the store */
    char replica[BACKUP_REPLICA_MAX + 1]; /* of the broker; "" in SQLite */
    /* Where that broker's audit log ended, as a struct store_head; seq 0: nowhere. And the ring of keys
     * that opens what the backup holds, as a struct store_ring, itself wrapped under the master key;
     * version 0: the store had none. */
    uint64_t audit_seq, ring_version;
    uint32_t audit_len, ring_len;
    uint8_t audit_head[STORE_HEAD_MAX];
    uint8_t ring[STORE_RING_MAX];
};

void backup_set_ring(struct backup_head *head, const struct store_ring *ring);
void backup_get_ring(const struct backup_head *head, struct store_ring *out);

struct backup_counts {
    uint64_t records, marks, highest;
    uint64_t bytes; /* of the whole file */
};

/* --- writing --- */

struct backup_writer;

/* Makes FOLDER/partial anew, for the owner alone. One at a time for each folder. */
MUST_USE bool backup_writer_new(const char *folder, const struct secret *master,
                                struct backup_writer **out, struct error *err);
void backup_writer_free(struct backup_writer **writer); /* removes what has no name yet */
#define auto_backup_writer CLEANUP(backup_writer_free)

/* Writes the head; forgets what was written before. Then export writes the rest. */
MUST_USE bool backup_begin(struct backup_writer *writer, const struct backup_head *head,
                           struct error *err);
struct store_visitor backup_visitor(struct backup_writer *writer);
/* Ends the file and has it on the disk, without a name. */
MUST_USE bool backup_end(struct backup_writer *writer, struct backup_counts *out,
                         uint8_t mac[static BACKUP_MAC_LEN], struct error *err);
/* Names it. ALREADY_EXISTS rather than replacing another file. */
MUST_USE bool backup_name(struct backup_writer *writer, const char *path, struct error *err);

/* --- reading --- */

struct backup_reader;

/* Checks the whole file, and reads no entry before that. FAILED_PRECONDITION when it is no backup, of
 * another version, or of another master key; DATA_LOSS when it was changed or cut. */
MUST_USE bool backup_reader_new(const char *path, const struct secret *master,
                                struct backup_reader **out, struct error *err);
void backup_reader_free(struct backup_reader **reader);
#define auto_backup_reader CLEANUP(backup_reader_free)

const uint8_t *backup_mac(const struct backup_reader *reader); /* BACKUP_MAC_LEN bytes */

/* Visits everything, in the order in which it was written; *head is set before. DATA_LOSS at the end
 * when the file is no longer the one that was checked: then nothing of it counts. visitor NULL: the
 * head alone. May be called again. */
MUST_USE bool backup_visit(struct backup_reader *reader, const struct store_visitor *visitor,
                           struct backup_head *head, struct backup_counts *out, struct error *err);
