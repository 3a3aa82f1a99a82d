/* SPDX-License-Identifier: Apache-2.0 */
#include "record/encoding.h"

#include "base/secret.h"
#include "record/field.h"

/* One row per field, ordered by number. The numbers are those of proto/keybroker.proto. */

static const struct field spec_fields[] = {
    FIELD_TEXT(1, struct volume_spec, name),
    FIELD_U64(2, struct volume_spec, size_bytes),
    FIELD_U32(3, struct volume_spec, integrity),
    FIELD_TEXT(4, struct volume_spec, fs_type),
    FIELD_U32(5, struct volume_spec, provisioning),
    FIELD_BOOL(6, struct volume_spec, discard),
    FIELD_U64(7, struct volume_spec, device_bytes),
    FIELD_U64(8, struct volume_spec, mapping_bytes),
    FIELD_U32(9, struct volume_spec, sector_bytes),
    FIELD_U32(10, struct volume_spec, journal_sectors),
    FIELD_U32(11, struct volume_spec, interleave_sectors),
    FIELD_TEXT(12, struct volume_spec, location),
    FIELD_U32(13, struct volume_spec, layout_version),
    FIELD_U32(14, struct volume_spec, backing),
    FIELD_BOOL(15, struct volume_spec, no_journal),
    FIELD_U32(16, struct volume_spec, workqueue),
    FIELD_BOOL(17, struct volume_spec, needs_publication),
    FIELD_BOOL(18, struct volume_spec, taken_over),
    FIELD_U32(19, struct volume_spec, fencing),
};
static const struct field_list spec_list = FIELD_LIST(spec_fields, struct volume_spec);

static const struct field lease_fields[] = {
    FIELD_TEXT(1, struct record_lease, holder.node),
    FIELD_TEXT(2, struct record_lease, holder.boot_id),
    FIELD_U64(3, struct record_lease, opened_ms),
    FIELD_U64(4, struct record_lease, lease_ms),
    FIELD_U64(5, struct record_lease, contested),
};
static const struct field_list lease_list = FIELD_LIST(lease_fields, struct record_lease);

static const struct field format_fields[] = {
    FIELD_U32(1, struct record_format, attempt),
    FIELD_TEXT(2, struct record_format, holder.node),
    FIELD_TEXT(3, struct record_format, holder.boot_id),
    FIELD_U64(4, struct record_format, deadline_ms),
    FIELD_U64(5, struct record_format, remaining_ms),
};
static const struct field_list format_list = FIELD_LIST(format_fields, struct record_format);

static const struct field origin_fields[] = {
    FIELD_BYTES(1, struct volume_origin, record_id),
    FIELD_U64(2, struct volume_origin, counter_low),
    FIELD_U64(3, struct volume_origin, counter_high),
};
static const struct field_list origin_list = FIELD_LIST(origin_fields, struct volume_origin);

static const struct field rotation_fields[] = {
    FIELD_BYTES(1, struct record_rotation, key.id),
    FIELD_U32(2, struct record_rotation, key.generation),
    FIELD_BYTES_IF(3, struct record_rotation, header_digest, has_header),
    FIELD_BYTES(4, struct record_rotation, recovery_sha256),
    FIELD_BLOB(5, struct record_rotation, secret, secret_len),
};
static const struct field_list rotation_list = FIELD_LIST(rotation_fields, struct record_rotation);

static const struct field restored_fields[] = {
    FIELD_BOOL(1, struct record_restored, is_adopted),
    FIELD_U64(2, struct record_restored, counter_low),
};
static const struct field_list restored_list = FIELD_LIST(restored_fields, struct record_restored);

static const struct field destroyed_fields[] = {
    FIELD_BYTES(1, struct record_destroyed, key.id),
    FIELD_U32(2, struct record_destroyed, key.generation),
    FIELD_U64(3, struct record_destroyed, made_ms),
    FIELD_U64(4, struct record_destroyed, destroyed_ms),
    FIELD_U64(5, struct record_destroyed, audit_seq),
    FIELD_TEXT(6, struct record_destroyed, replica),
    FIELD_TEXT(7, struct record_destroyed, by),
    FIELD_U64(8, struct record_destroyed, backup_ms),
    FIELD_U64(9, struct record_destroyed, wrapping),
    FIELD_BOOL(10, struct record_destroyed, is_shared),
    FIELD_BOOL(11, struct record_destroyed, has_recovery),
};
static const struct field_list destroyed_list =
    FIELD_LIST(destroyed_fields, struct record_destroyed);

static const struct field retained_fields[] = {
    FIELD_U64(1, struct record_retained, deleted_ms),
    FIELD_U64(2, struct record_retained, due_ms),
    FIELD_TEXT(3, struct record_retained, by),
};
static const struct field_list retained_list = FIELD_LIST(retained_fields, struct record_retained);

static const struct field record_fields[] = {
    FIELD_VERSION(1, RECORD_VERSION),
    FIELD_TEXT(2, struct record, tenant),
    FIELD_TEXT(3, struct record, driver),
    FIELD_TEXT(4, struct record, volume_id),
    FIELD_U32(5, struct record, kind),
    FIELD_U32(6, struct record, phase),
    FIELD_U64(7, struct record, version),
    FIELD_MESSAGE(8, struct record, spec, spec_list),
    FIELD_BYTES(9, struct record, key.id),
    FIELD_U32(10, struct record, key.generation),
    FIELD_BYTES_EACH(11, struct record, header_digests, n_header_digests),
    FIELD_U64(12, struct record, open_counter),
    FIELD_BYTES_IF(13, struct record, clean_hash, has_clean_hash),
    FIELD_MESSAGE(14, struct record, lease, lease_list),
    FIELD_MESSAGE(15, struct record, format, format_list),
    FIELD_MESSAGE_IF(16, struct record, origin, origin.is_set, origin_list),
    FIELD_TEXT(17, struct record, source_volume_id),
    FIELD_U64(18, struct record, created_ms),
    FIELD_BYTES(19, struct record, id),
    FIELD_BOOL(20, struct record, is_closed),
    FIELD_U64(21, struct record, published.epoch),
    FIELD_TEXT(22, struct record, published.nodes),
    FIELD_BYTES_IF(23, struct record, old_key.wrapped, old_key.is_set),
    FIELD_BYTES(24, struct record, recovery.sha256),
    FIELD_BLOB(25, struct record, recovery.certificate, recovery.certificate_len),
    FIELD_MESSAGE(26, struct record, rotation, rotation_list),
    FIELD_MESSAGE_IF(27, struct record, restored, restored.is_set, restored_list),
    FIELD_MESSAGE_EACH(28, struct record, destroyed, n_destroyed, destroyed_list),
    FIELD_U64(29, struct record, destroyed_before),
    FIELD_MESSAGE(30, struct record, retained, retained_list),
};
static const struct field_list record_list = FIELD_LIST(record_fields, struct record);

/* Message Change has the fields of all kinds. A field that a kind does not use is not encoded. */
static const struct field change_fields[] = {
    FIELD_U32(1, struct record_change, kind),
    FIELD_U32(2, struct record_change, attempt),
    FIELD_BYTES(3, struct record_change, header_digest),
    FIELD_U64(4, struct record_change, open_counter),
    FIELD_BYTES_IF(5, struct record_change, clean_hash, has_clean_hash),
    FIELD_U64(6, struct record_change, size_bytes),
    FIELD_U64(7, struct record_change, device_bytes),
    FIELD_U64(8, struct record_change, mapping_bytes),
    FIELD_BOOL(9, struct record_change, is_closed),
    FIELD_BYTES(10, struct record_change, recovery_sha256),
};
static const struct field_list change_list = FIELD_LIST(change_fields, struct record_change);

static void encode(const struct field_list *list, const void *object, struct encoded *out)
{
    out->len = fields_encode(list, object, out->bytes, sizeof(out->bytes));
}

void record_encode(const struct record *record, struct encoded *out)
{
    encode(&record_list, record, out);
}

bool record_is_equal(const struct record *a, const struct record *b)
{
    struct encoded one, other;

    record_encode(a, &one);
    record_encode(b, &other);
    return one.len == other.len && bytes_are_equal(one.bytes, other.bytes, one.len);
}

void volume_spec_encode(const struct volume_spec *spec, struct encoded *out)
{
    encode(&spec_list, spec, out);
}

void record_change_encode(const struct record_change *change, struct encoded *out)
{
    encode(&change_list, change, out);
}

bool record_decode(const uint8_t *bytes, size_t len, struct record *out, struct error *err)
{
    return fields_decode(&record_list, bytes, len, out, err) || error_wrap(err, "record");
}

bool volume_spec_decode(const uint8_t *bytes, size_t len, struct volume_spec *out,
                        struct error *err)
{
    return fields_decode(&spec_list, bytes, len, out, err) || error_wrap(err, "spec");
}

bool record_change_decode(const uint8_t *bytes, size_t len, struct record_change *out,
                          struct error *err)
{
    return fields_decode(&change_list, bytes, len, out, err) || error_wrap(err, "change");
}
