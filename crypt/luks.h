/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/record.h"

/*
 * The door to libcryptsetup. It works on a header in memory and never sees a header on the disk.
 * The volume key is not put into the kernel's keyring: tables must be reloadable (growth) by a
 * later worker.
 */

/* The parameters of an integrity mode; NULL when unknown. */
struct luks_mode {
    const char *cipher, *cipher_mode; /* "aes", "xts-plain64" */
    const char *encryption;           /* both, as the header has them */
    const char *integrity;            /* as the header has it; NULL without */
    uint32_t key_bytes;               /* of the volume key */
    uint32_t tag_bytes;
};
const struct luks_mode *luks_mode_of(uint32_t integrity);

/* Key derivation is as cheap as LUKS2 allows: the passphrase is a random 32-byte key. */
#define LUKS_KDF_HASH       "sha256"
#define LUKS_KDF_ITERATIONS 1000
#define LUKS_AREA_CIPHER    "aes-xts-plain64"
#define LUKS_AREA_KEY_BYTES 64

/*
 * Writes dm-integrity's superblock to device_path, leaves the new header (LAYOUT_HEADER_BYTES) in
 * header, and opens the volume as name. The header itself is not written to the device.
 */
MUST_USE bool luks_format(const char *name, const char *device_path, const struct record *record,
                          const struct secret *passphrase, uint8_t *header, struct error *err);

/* Opens with a header that was compared with the record. FAILED_PRECONDITION "KeyMismatch" when
 * the passphrase does not open it. */
MUST_USE bool luks_open(const char *name, const char *device_path, const struct record *record,
                        const struct secret *passphrase, const uint8_t *header, struct error *err);

/* Without integrity: extends the open mapping to the record's size. */
MUST_USE bool luks_grow(const char *name, const char *device_path, const struct record *record,
                        const uint8_t *header, struct error *err);
