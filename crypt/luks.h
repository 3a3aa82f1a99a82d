/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/record.h"

/*
 * The only place that calls libcryptsetup. It works on a header in memory and never sees the header
 * on the disk. The volume key is not put into the kernel's keyring, because a later worker must be
 * able to load a longer table (growth).
 */

/* The parameters of an integrity mode. */
struct luks_mode {
    const char *cipher, *cipher_mode; /* "aes", "xts-plain64" */
    const char *encryption;           /* cipher and mode, as written in the header */
    const char *integrity;            /* as written in the header; NULL without integrity */
    uint32_t key_bytes;               /* of the volume key */
    uint32_t tag_bytes;
    /* What the header is made as, when libcryptsetup cannot make it in this mode; otherwise NULL. The
     * key is as long. The superblock of dm-integrity is then not written either. */
    const char *stand_in_cipher, *stand_in_mode;
};
const struct luks_mode *luks_mode_of(uint32_t integrity); /* NULL when unknown */

/* Key derivation is as cheap as LUKS2 allows: the passphrase is a random 32-byte key. */
#define LUKS_KDF_HASH       "sha256"
#define LUKS_KDF_ITERATIONS 1000
#define LUKS_AREA_CIPHER    "aes-xts-plain64"
#define LUKS_AREA_KEY_BYTES 64

/* Loads what libcryptsetup loads at its first use. header_fd: a header of zeros. */
MUST_USE bool luks_prepare(int header_fd, struct error *err);

/* Makes the LUKS2 header that holds volume_key, in a header of header_new(). NULL: a new random key.
 * Its mode is perhaps another one (header_set_mode()). Writes nothing that counts to the device. */
MUST_USE bool luks_make_header(const char *device_path, const struct record *record,
                               const struct secret *volume_key, const struct secret *passphrase,
                               int header_fd, struct error *err);

/* Gets the volume key out of a sealed header that another program made and crypt/old_header.h has
 * checked. FAILED_PRECONDITION: "KeyMismatch" when the passphrase opens no keyslot, "OldHeader" when
 * libcryptsetup finds another fault, such as a wrong checksum. */
MUST_USE bool luks_get_volume_key(int header_fd, const struct secret *passphrase,
                                  const struct volume_spec *spec, struct secret *volume_key,
                                  struct error *err);

/* Gives a header of ours another passphrase: the keyslot is made anew, and nothing of the former one stays
 * in it. It is not sealed. FAILED_PRECONDITION "KeyMismatch" when the old passphrase does not open it.
 * Touches no device. */
MUST_USE bool luks_change_passphrase(int header_fd, const struct volume_spec *spec,
                                     const struct secret *old_passphrase,
                                     const struct secret *passphrase, struct error *err);

/* Opens the volume with a header that was already compared with the record. FAILED_PRECONDITION
 * "KeyMismatch" when the passphrase does not open a keyslot. */
MUST_USE bool luks_open(const char *name, const char *device_path, const struct record *record,
                        const struct secret *passphrase, int header_fd, struct error *err);

/* --- headers that others made, for migrate/ --- */

/* The volume key that a passphrase opens, from any keyslot. FAILED_PRECONDITION "KeyMismatch" when it
 * opens none. Touches no device. */
MUST_USE bool luks_unlock(int header_fd, const struct secret *passphrase, struct secret *volume_key,
                          struct error *err);

/* Opens a device with its volume key. read_only: of all layers that this makes; dm-integrity must be
 * able to write its journal. */
MUST_USE bool luks_open_with_key(const char *name, const char *device_path, int header_fd,
                                 const struct secret *volume_key, bool read_only,
                                 struct error *err);
