/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/event_log.h"

#include "attest/reason.h"
#include "base/digest.h"
#include "base/reader.h"

#include <string.h>

enum {
    ALGORITHM_SHA384 = 0x000c,
    SPEC_ID_ALGORITHMS_AT = 24, /* signature 16, class 4, version 2, errata 1, uintn 1 */
    ALGORITHMS_MAX = 8,
    LEGACY_DIGEST_LEN = 20,
};
#define LOG_END 0xffffffffu

/* Digest sizes as the log's first event declares them. */
struct algorithms {
    size_t n;
    uint16_t ids[ALGORITHMS_MAX];
    uint16_t sizes[ALGORITHMS_MAX];
};

static bool bad(struct error *err, const char *what)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "event log: %s", what);
}

static bool take_data(struct byte_reader *r, const uint8_t **data, size_t *len)
{
    uint32_t size = 0;

    if (!byte_reader_u32(r, &size) || !byte_reader_take(r, size, data))
        return false;
    *len = size;
    return true;
}

/* The first event has a SHA-1 header and no digest of its own. It names the algorithms of all
 * others. */
static bool read_spec_id(struct byte_reader *r, struct algorithms *out, struct error *err)
{
    static const char signature[16] = "Spec ID Event03";
    const uint8_t *digest = NULL, *data = NULL, *skipped = NULL;
    uint32_t index = 0, type = 0, n = 0;
    size_t len = 0;

    if (!byte_reader_u32(r, &index) || !byte_reader_u32(r, &type) ||
        !byte_reader_take(r, LEGACY_DIGEST_LEN, &digest) || !take_data(r, &data, &len))
        return bad(err, "the first event is cut");
    struct byte_reader spec = { data, len };
    if (type != EVENT_NO_ACTION || len < SPEC_ID_ALGORITHMS_AT ||
        memcmp(data, signature, sizeof(signature)) != 0)
        return bad(err, "it does not begin with a Spec ID event");
    if (!byte_reader_take(&spec, SPEC_ID_ALGORITHMS_AT, &skipped) || !byte_reader_u32(&spec, &n) ||
        n == 0 || n > ALGORITHMS_MAX)
        return bad(err, "it names no digest algorithm, or too many");
    for (out->n = 0; out->n < n; out->n++)
        if (!byte_reader_u16(&spec, &out->ids[out->n]) ||
            !byte_reader_u16(&spec, &out->sizes[out->n]))
            return bad(err, "the list of algorithms is cut");
    return true;
}

static bool digest_size(const struct algorithms *known, uint16_t id, size_t *size)
{
    for (size_t i = 0; i < known->n; i++)
        if (known->ids[i] == id) {
            *size = known->sizes[i];
            return true;
        }
    return false;
}

static bool read_digests(struct byte_reader *r, const struct algorithms *known, struct event *out,
                         struct error *err)
{
    uint32_t n = 0;

    if (!byte_reader_u32(r, &n) || n == 0 || n > ALGORITHMS_MAX)
        return bad(err, "an event has no digest, or too many");
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *digest = NULL;
        uint16_t id = 0;
        size_t size = 0;

        if (!byte_reader_u16(r, &id) || !digest_size(known, id, &size) ||
            !byte_reader_take(r, size, &digest))
            return bad(err, "a digest has an unknown algorithm, or is cut");
        if (id == ALGORITHM_SHA384 && size == MEASUREMENT_LEN)
            out->digest = digest;
    }
    return out->digest || bad(err, "an event has no SHA-384 digest");
}

static bool read_event(struct byte_reader *r, const struct algorithms *known, struct event *out,
                       struct error *err)
{
    *out = (struct event){ .digest = NULL };
    if (!byte_reader_u32(r, &out->register_index) || !byte_reader_u32(r, &out->type))
        return bad(err, "an event is cut");
    if (out->register_index > 4)
        return bad(err, "an event is for a register that does not exist");
    return read_digests(r, known, out, err) &&
           (take_data(r, &out->data, &out->data_len) || bad(err, "an event's data is cut"));
}

/* The ACPI table is larger than the log: after the log come 0xffffffff, or zeros to the table's
 * end. */
static bool is_end(const struct byte_reader *r)
{
    struct byte_reader ahead = *r;
    uint32_t word = 0;

    if (r->left == 0 || (byte_reader_u32(&ahead, &word) && word == LOG_END))
        return true;
    return bytes_are_zero(r->at, r->left);
}

bool event_log_walk(const uint8_t *bytes, size_t len, event_visit *visit, void *cookie,
                    struct error *err)
{
    struct byte_reader r = { bytes, len };
    struct algorithms known = { .n = 0 };
    struct event event;

    if (len > EVENT_LOG_LEN_MAX)
        return bad(err, "it is longer than 1 MiB");
    if (!read_spec_id(&r, &known, err))
        return false;
    for (size_t n = 0; !is_end(&r); n++) {
        if (n == EVENT_COUNT_MAX)
            return bad(err, "it has more than 4096 events");
        if (!read_event(&r, &known, &event, err) || !visit(cookie, &event, err))
            return false;
    }
    return true;
}

static bool extend(void *cookie, const struct event *event, struct error *err)
{
    uint8_t(*rtmr)[MEASUREMENT_LEN] = cookie;
    uint8_t input[2 * MEASUREMENT_LEN];

    if (event->register_index == 0 || event->type == EVENT_NO_ACTION)
        return true;
    uint8_t *target = rtmr[event->register_index - 1];
    memcpy(input, target, MEASUREMENT_LEN);
    memcpy(input + MEASUREMENT_LEN, event->digest, MEASUREMENT_LEN);
    return sha384(input, sizeof(input), target, err);
}

bool event_log_replay(const uint8_t *bytes, size_t len, uint8_t rtmr[4][MEASUREMENT_LEN],
                      struct error *err)
{
    uint8_t fresh[4][MEASUREMENT_LEN] = { { 0 } };

    if (!event_log_walk(bytes, len, extend, fresh, err))
        return false;
    memcpy(rtmr, fresh, sizeof(fresh));
    return true;
}

bool event_log_check(const uint8_t *bytes, size_t len, const struct td_report *td,
                     struct error *err)
{
    uint8_t rtmr[4][MEASUREMENT_LEN];

    if (!event_log_replay(bytes, len, rtmr, err)) {
        if (err->code != ERROR_INVALID_ARGUMENT)
            return false;
        const struct error cause = *err;
        return attest_refuse(err, REASON_EVENT_LOG_MALFORMED, "%s", cause.text);
    }
    for (size_t i = 0; i < ARRAY_LEN(rtmr); i++)
        if (memcmp(rtmr[i], td->rtmr[i], MEASUREMENT_LEN) != 0)
            return attest_refuse(err, REASON_EVENT_LOG_MISMATCH,
                                 "the event log replays to another RTMR%zu than the quote has", i);
    return true;
}
