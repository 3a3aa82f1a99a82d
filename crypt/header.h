/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/recovery_token.h"
#include "record/layout.h"

#include <jansson.h>
#include <sys/types.h>

/*
 * The two copies of the LUKS2 header on the device. Two checks guard the parser: the header's
 * SHA-256 must be in the record, and then its content must have exactly the form that we write. A
 * bug in one check is caught by the other.
 */

/* A header in memory: a file without a name, of LAYOUT_HEADER_BYTES zeros. libcryptsetup wants a file.
 * The functions below call its descriptor header_fd. */
MUST_USE bool header_new(int *out_fd, struct error *err);

MUST_USE bool header_digest(int header_fd, uint8_t out[static SHA256_LEN], struct error *err);

/* Its two metadata areas: everything that is parsed. */
#define HEADER_PARSED_BYTES 32768u

/* Finds the JSON of any LUKS2 header with metadata areas of this size, which must both say the same.
 * Returns what is wrong, or NULL: then the caller releases *out. */
MUST_USE const char *header_parse(const uint8_t metadata[static HEADER_PARSED_BYTES], json_t **out);

/*
 * DATA_LOSS "HeaderChanged" names the part that is not as expected. recovery_sha256: of the certificate
 * for which the header must have a recovery token, as in struct record_recovery; zeros: it must have
 * none; NULL: none, or one for any certificate. A token has exactly the form of crypt/recovery_token.h.
 */
MUST_USE bool header_check_metadata(const uint8_t metadata[static HEADER_PARSED_BYTES],
                                    const struct volume_spec *spec, const uint8_t *recovery_sha256,
                                    struct error *err);
/* Also seals the header: nothing can change it any more. */
MUST_USE bool header_check(int header_fd, const struct volume_spec *spec,
                           const uint8_t *recovery_sha256, struct error *err);

/* The recovery token of a header that was checked. *found: it has one. */
MUST_USE bool header_find_token(int header_fd, bool *found, struct recovery_token *out,
                                struct error *err);

/* Nothing can change the header any more. */
MUST_USE bool header_seal(int header_fd, struct error *err);

/* Ends the making of a header. One that was made for another mode, with a volume key of the same length,
 * gets the mode and the numbering of sectors of spec. token: NULL for none; it replaces one that is there. INTERNAL when it has a part
 * that header_check() would refuse. */
MUST_USE bool header_finish(int header_fd, const struct volume_spec *spec,
                            const struct recovery_token *token, struct error *err);

/* Writes copy B, flushes, writes copy A, flushes, and reads both back. After a crash at any moment
 * one copy is whole. */
MUST_USE bool header_write(int device_fd, int header_fd, struct error *err);
/* The first half of it: copy B alone. */
MUST_USE bool header_write_b(int device_fd, int header_fd, struct error *err);

struct header_found {
    bool needs_repair; /* the other copy differs or cannot be read */
    bool is_next;      /* it is the one of the record's rotation: it opens with the next secret */
};

/*
 * Reads the first copy (A, then B) whose digest the record knows, and checks its form; one of the record's
 * rotation comes before all others. DATA_LOSS "HeaderChanged" when the record knows neither copy.
 */
MUST_USE bool header_read(int device_fd, const struct record *record, int header_fd,
                          struct header_found *found, struct error *err);

/* Copies a header in memory into one of header_new(), which is not sealed. */
MUST_USE bool header_copy(int from_fd, int to_fd, struct error *err);

/* Reads one copy and checks its form; its recovery token may be for any certificate. For a device of
 * which no record knows a digest. */
MUST_USE bool header_read_copy(int device_fd, off_t offset, const struct volume_spec *spec,
                               int header_fd, struct error *err);

/* Overwrites each copy that differs from the header. */
MUST_USE bool header_repair(int device_fd, int header_fd, struct error *err);
