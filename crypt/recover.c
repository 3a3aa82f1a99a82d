/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/recover.h"

#include "base/file.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/integrity.h"
#include "record/check.h"
#include "record/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID_OFFSET   168 /* in the binary header */
#define UUID_TEXT_MAX 36

/* Every form of header that there is: a header fits one at most. */
static const struct volume_spec forms[] = {
    { .integrity = INTEGRITY_AEGIS128, .sector_bytes = VOLUME_SECTOR_BYTES },
    { .integrity = INTEGRITY_HMAC_SHA256, .sector_bytes = VOLUME_SECTOR_BYTES },
    { .integrity = INTEGRITY_NONE, .sector_bytes = VOLUME_SECTOR_BYTES },
    { .integrity = INTEGRITY_NONE, .sector_bytes = VOLUME_SECTOR_BYTES, .taken_over = true },
    { .integrity = INTEGRITY_NONE, .sector_bytes = SECTOR_BYTES, .taken_over = true },
};

static bool find_form(const uint8_t *metadata, struct volume_spec *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (header_check_metadata(metadata, &forms[i], NULL, err)) {
            *out = forms[i];
            return true;
        }
    }
    return error_set_reason(err, ERROR_DATA_LOSS, "HeaderChanged",
                            "this is no header that tdvol writes");
}

/* For people; only its form is sure. */
static void take_uuid(const uint8_t *metadata, char out[static UUID_TEXT_MAX + 1])
{
    const char *text = (const char *)metadata + UUID_OFFSET;
    size_t len = strnlen(text, UUID_TEXT_MAX);

    memcpy(out, text, len);
    out[len] = '\0';
    if (strspn(out, "0123456789abcdef-") != UUID_TEXT_MAX)
        out[0] = '\0';
}

bool recover_read_header(int device_fd, off_t offset, struct recover_header *out, struct error *err)
{
    auto_free uint8_t *metadata = NULL;
    auto_close int fd = -1;
    struct recover_header found = { .has_token = false };

    if (!device_buffer(HEADER_PARSED_BYTES, &metadata, err) || !header_new(&fd, err) ||
        !fd_pread_all(device_fd, metadata, HEADER_PARSED_BYTES, offset, err) ||
        !find_form(metadata, &found.spec, err))
        return false;
    /* The device may give other bytes now: only this copy counts. */
    if (!header_read_copy(device_fd, offset, &found.spec, fd, err) ||
        !header_digest(fd, found.digest, err) ||
        !header_find_token(fd, &found.has_token, &found.token, err))
        return false;
    take_uuid(metadata, found.record_id);
    *out = found;
    return true;
}

static bool find_sizes(int device_fd, uint64_t device_bytes, struct volume_spec *spec,
                       struct error *err)
{
    uint64_t offset = layout_data_offset(spec);

    if (spec->integrity != INTEGRITY_NONE)
        return integrity_read_sizes(device_fd, spec, err);
    if (device_bytes <= offset)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the device ends before its data");
    spec->mapping_bytes = (device_bytes - offset) / VOLUME_SECTOR_BYTES * VOLUME_SECTOR_BYTES;
    return layout_find_size(spec->integrity, spec->mapping_bytes, &spec->size_bytes) ||
           error_set(err, ERROR_FAILED_PRECONDITION, "no volume has the size of this device");
}

/* What the disk does not say is chosen so that record_check() accepts it, and that nothing follows from
 * it. */
bool recover_make_record(int device_fd, uint64_t device_bytes, const struct recover_header *header,
                         struct record *out, struct error *err)
{
    struct record r = { .driver = "recovery",
                        .volume_id = "recovery",
                        .kind = RECORD_VOLUME,
                        .phase = RECORD_READY,
                        .version = 1,
                        .spec = header->spec,
                        .key = { .generation = 1 },
                        .n_header_digests = 1 };

    (void)snprintf(r.spec.name, sizeof(r.spec.name), "recovery");
    r.spec.provisioning = PROVISIONING_THICK;
    r.spec.workqueue = WORKQUEUE_AUTO;
    r.spec.backing = BACKING_DEVICE;
    r.spec.layout_version = LAYOUT_VERSION;
    memcpy(r.header_digests[0], header->digest, SHA256_LEN);
    if (header->has_token)
        memcpy(r.recovery.sha256, header->token.certificate_sha256, SHA256_LEN);
    if (!find_sizes(device_fd, device_bytes, &r.spec, err))
        return false;
    r.spec.device_bytes = layout_device_bytes(&r.spec);
    if (!record_check(&r, err))
        return error_wrap(err, "what the disk says");
    *out = r;
    return true;
}
