/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/encoding.h"
#include "record/field.h"
#include "store/backup_file.h"
#include "store/seal.h"

/* What the writer and the reader of store/backup_file.h share. */

#define BACKUP_MAGIC_NAME  "tdvol backup "
#define BACKUP_MAGIC       BACKUP_MAGIC_NAME "01\n"
#define BACKUP_MAGIC_LEN   (sizeof(BACKUP_MAGIC) - 1)
#define BACKUP_START_LEN   (BACKUP_MAGIC_LEN + STORE_MARK_LEN) /* before the first entry */
#define BACKUP_ENTRY_START 5                                   /* type and length */
#define BACKUP_HEAD_MAX    2048u
/* The longest entry is a record. */
#define BACKUP_ENTRY_MAX (1 + STORE_WRAPPED_LEN + RECORD_ENCODED_MAX)

enum backup_entry {
    BACKUP_HEAD = 'H',
    BACKUP_RECORD = 'R',
    BACKUP_MARK = 'M',
    BACKUP_HIGHEST = 'N',
    BACKUP_END = 'E'
};

extern const struct field_list backup_head_fields;

/* Of a file, from the SHA-256 of all before it. */
MUST_USE bool backup_make_mac(const struct secret *master, const uint8_t digest[static SHA256_LEN],
                              uint8_t out[static BACKUP_MAC_LEN], struct error *err);
