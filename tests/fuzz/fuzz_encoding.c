/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "record/encoding.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "keybroker.pb-c.h"

/*
 * Records between two implementations and two forms. The first byte chooses the message; bit 7
 * chooses what the rest is: bytes as they come in, or the members of a struct. Accepted bytes mean the
 * same to protobuf-c, and are the only bytes for that struct.
 */

/* --- as protobuf-c sees it --- */

static void pack(const ProtobufCMessage *message, struct encoded *out)
{
    out->len = protobuf_c_message_get_packed_size(message);
    if (out->len <= sizeof(out->bytes))
        (void)protobuf_c_message_pack(message, out->bytes);
}

static void agree(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len)
{
    static struct encoded again;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, NULL, len, bytes);

    if (!message || message->n_unknown_fields > 0)
        abort();
    pack(message, &again);
    if (again.len != len || (len > 0 && memcmp(again.bytes, bytes, len) != 0))
        abort();
    protobuf_c_message_free_unpacked(message, NULL);
}

/* An enum has 31 bits in protobuf-c; record_check() refuses values that have no name. */
static bool has_enums(const struct volume_spec *s)
{
    const uint32_t enums[] = { s->integrity, s->provisioning, s->backing, s->workqueue };

    for (size_t i = 0; i < ARRAY_LEN(enums); i++)
        if (enums[i] > INT32_MAX)
            return false;
    return true;
}

/* --- three messages, one way of checking --- */

union any {
    struct record record;
    struct volume_spec spec;
    struct record_change change;
};

static void encode_record(const union any *any, struct encoded *out)
{
    record_encode(&any->record, out);
}

static void encode_spec(const union any *any, struct encoded *out)
{
    volume_spec_encode(&any->spec, out);
}

static void encode_change(const union any *any, struct encoded *out)
{
    record_change_encode(&any->change, out);
}

static bool decode_record(const uint8_t *bytes, size_t len, union any *out, struct error *err)
{
    return record_decode(bytes, len, &out->record, err);
}

static bool decode_spec(const uint8_t *bytes, size_t len, union any *out, struct error *err)
{
    return volume_spec_decode(bytes, len, &out->spec, err);
}

static bool decode_change(const uint8_t *bytes, size_t len, union any *out, struct error *err)
{
    return record_change_decode(bytes, len, &out->change, err);
}

static bool record_has_enums(const union any *any)
{
    return has_enums(&any->record.spec) && (uint32_t)any->record.kind <= INT32_MAX &&
           (uint32_t)any->record.phase <= INT32_MAX;
}

static bool spec_has_enums(const union any *any)
{
    return has_enums(&any->spec);
}

static bool change_has_enums(const union any *any)
{
    return (uint32_t)any->change.kind <= INT32_MAX;
}

/* --- a struct from the input --- */

struct source {
    const uint8_t *at, *end;
};

static uint8_t next(struct source *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static uint64_t number(struct source *in)
{
    uint64_t out = 0;

    for (unsigned n = next(in) % 9; n > 0; n--)
        out = out << 8 | next(in);
    return out;
}

static void text(struct source *in, char *out, size_t size)
{
    size_t len = (size_t)number(in) % size;

    for (size_t i = 0; i < len; i++)
        out[i] = (char)(' ' + next(in) % ('~' - ' '));
}

static void block(struct source *in, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = next(in);
}

static void fill_spec(struct source *in, struct volume_spec *s)
{
    text(in, s->name, sizeof(s->name));
    s->size_bytes = number(in);
    s->integrity = next(in);
    text(in, s->fs_type, sizeof(s->fs_type));
    s->provisioning = next(in);
    s->discard = next(in) % 2;
    s->no_journal = next(in) % 2;
    s->workqueue = next(in);
    s->device_bytes = number(in);
    s->mapping_bytes = number(in);
    s->sector_bytes = (uint32_t)number(in);
    s->journal_sectors = (uint32_t)number(in);
    s->interleave_sectors = (uint32_t)number(in);
    text(in, s->location, sizeof(s->location));
    s->layout_version = (uint32_t)number(in);
    s->backing = next(in);
    s->taken_over = next(in) % 2;
    s->fencing = (enum fencing)next(in);
}

static void fill_holder(struct source *in, struct record_holder *out)
{
    text(in, out->node, sizeof(out->node));
    text(in, out->boot_id, sizeof(out->boot_id));
}

static void fill_rest(struct source *in, struct record *r)
{
    r->n_header_digests = next(in) % (RECORD_DIGESTS_MAX + 1);
    for (uint32_t i = 0; i < r->n_header_digests; i++)
        block(in, r->header_digests[i], SHA256_LEN);
    r->has_clean_hash = next(in) % 2;
    if (r->has_clean_hash)
        block(in, r->clean_hash, SHA256_LEN);
    r->old_key.is_set = next(in) % 2;
    if (r->old_key.is_set)
        block(in, r->old_key.wrapped, OLD_KEY_WRAPPED);
    fill_holder(in, &r->lease.holder);
    r->lease.opened_ms = number(in);
    r->lease.lease_ms = number(in);
    r->lease.contested = number(in);
    r->format.attempt = (uint32_t)number(in);
    fill_holder(in, &r->format.holder);
    r->format.deadline_ms = number(in);
    r->format.remaining_ms = number(in);
    r->origin.is_set = next(in) % 2;
    if (r->origin.is_set) {
        block(in, r->origin.record_id, RECORD_ID_LEN);
        r->origin.counter_low = number(in);
        r->origin.counter_high = number(in);
    }
}

static void fill_record(struct source *in, union any *any)
{
    struct record *r = &any->record;

    block(in, r->id, RECORD_ID_LEN);
    text(in, r->tenant, sizeof(r->tenant));
    text(in, r->driver, sizeof(r->driver));
    text(in, r->volume_id, sizeof(r->volume_id));
    r->kind = next(in);
    r->phase = next(in);
    r->version = number(in);
    fill_spec(in, &r->spec);
    block(in, r->key.id, RECORD_ID_LEN);
    r->key.generation = (uint32_t)number(in);
    r->open_counter = number(in);
    r->is_closed = next(in) % 2;
    fill_rest(in, r);
    text(in, r->source_volume_id, sizeof(r->source_volume_id));
    r->created_ms = number(in);
}

static void fill_only_spec(struct source *in, union any *any)
{
    fill_spec(in, &any->spec);
}

static void fill_change(struct source *in, union any *any)
{
    struct record_change *c = &any->change;

    c->kind = next(in);
    c->attempt = (uint32_t)number(in);
    block(in, c->header_digest, SHA256_LEN);
    c->open_counter = number(in);
    c->is_closed = next(in) % 2;
    c->has_clean_hash = next(in) % 2;
    if (c->has_clean_hash)
        block(in, c->clean_hash, SHA256_LEN);
    c->size_bytes = number(in);
    c->device_bytes = number(in);
    c->mapping_bytes = number(in);
}

static const struct kind {
    const ProtobufCMessageDescriptor *type;
    size_t size;
    void (*encode)(const union any *any, struct encoded *out);
    bool (*decode)(const uint8_t *bytes, size_t len, union any *out, struct error *err);
    bool (*has_enums)(const union any *any);
    void (*fill)(struct source *in, union any *any);
} kinds[] = {
    { &tdvol__keybroker__v1__record__descriptor, sizeof(struct record), encode_record,
      decode_record, record_has_enums, fill_record },
    { &tdvol__keybroker__v1__volume_spec__descriptor, sizeof(struct volume_spec), encode_spec,
      decode_spec, spec_has_enums, fill_only_spec },
    { &tdvol__keybroker__v1__change__descriptor, sizeof(struct record_change), encode_change,
      decode_change, change_has_enums, fill_change },
};

static void check_bytes(const struct kind *kind, const uint8_t *bytes, size_t len)
{
    static struct encoded again;
    static union any any;
    struct error err = ERROR_INIT;

    if (!kind->decode(bytes, len, &any, &err)) {
        if (err.code == ERROR_NONE || err.text[0] == '\0')
            abort();
        return;
    }
    kind->encode(&any, &again);
    if (again.len != len || (len > 0 && memcmp(again.bytes, bytes, len) != 0))
        abort();
    if (kind->has_enums(&any))
        agree(kind->type, bytes, len);
}

/* What protobuf-c makes of the bytes is in a canonical form more often than the bytes are. */
static void check_repacked(const struct kind *kind, const uint8_t *bytes, size_t len)
{
    static struct encoded packed;
    ProtobufCMessage *message = protobuf_c_message_unpack(kind->type, NULL, len, bytes);

    if (!message)
        return;
    pack(message, &packed);
    protobuf_c_message_free_unpacked(message, NULL);
    if (packed.len <= sizeof(packed.bytes))
        check_bytes(kind, packed.bytes, packed.len);
}

static void check_struct(const struct kind *kind, const uint8_t *bytes, size_t len)
{
    static union any any, back;
    static struct encoded encoded;
    struct source in = { bytes, bytes + len };
    struct error err = ERROR_INIT;

    bytes_wipe(&any, sizeof(any));
    bytes_wipe(&back, sizeof(back));
    kind->fill(&in, &any);
    kind->encode(&any, &encoded);
    if (!kind->decode(encoded.bytes, encoded.len, &back, &err) ||
        memcmp(&any, &back, kind->size) != 0)
        abort();
    agree(kind->type, encoded.bytes, encoded.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    const struct kind *kind = &kinds[(bytes[0] & 0x7F) % ARRAY_LEN(kinds)];

    if (bytes[0] & 0x80) {
        check_struct(kind, bytes + 1, len - 1);
        return 0;
    }
    check_bytes(kind, len > 1 ? bytes + 1 : NULL, len - 1); /* as protobuf-c has no bytes */
    check_repacked(kind, bytes + 1, len - 1);
    return 0;
}
