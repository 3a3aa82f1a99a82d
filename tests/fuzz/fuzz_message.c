/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "ctl/message.h"
#include "ctl/size.h"
#include "proto/decode.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csi.pb-c.h"
#include "keybroker.pb-c.h"

/*
 * What tdvolctl prints of an answer, which may come from a hostile broker or plugin. The first byte
 * chooses the type of the answer. Nothing that is printed can control the terminal. The last type is
 * no message but a size as people write it.
 */

static const ProtobufCMessageDescriptor *const types[] = {
    &tdvol__keybroker__v1__get_status_response__descriptor,
    &tdvol__keybroker__v1__get_record_response__descriptor,
    &tdvol__keybroker__v1__list_records_response__descriptor,
    &csi__v1__list_volumes_response__descriptor,
    &csi__v1__list_snapshots_response__descriptor,
    &csi__v1__create_volume_response__descriptor,
    &csi__v1__create_snapshot_response__descriptor,
    &csi__v1__node_get_info_response__descriptor,
    &csi__v1__node_get_volume_stats_response__descriptor,
    &csi__v1__get_plugin_info_response__descriptor,
    &csi__v1__get_capacity_response__descriptor,
};

static void check_printed(const char *text, size_t len)
{
    for (size_t at = 0, n; at < len; at += n) {
        uint32_t character = 0;

        n = utf8_next((const uint8_t *)text + at, len - at, &character);
        if (n == 0 || (character != '\n' && utf8_is_control(character)))
            abort();
    }
}

/* message_print() writes to stdout. */
static void print(const json_t *json)
{
    FILE *terminal = stdout;
    char *text = NULL;
    size_t len = 0;

    stdout = open_memstream(&text, &len);
    if (!stdout)
        abort();
    message_print(json);
    (void)fclose(stdout);
    stdout = terminal;
    check_printed(text, len);
    free(text);
}

static void message(const ProtobufCMessageDescriptor *type, struct rpc_bytes bytes)
{
    static const struct rpc_limits limits = { 65536, 4096, 16384 };
    auto_arena struct arena arena = { .limit = (size_t)4 * 1024 * 1024 };
    ProtobufCMessage *decoded = NULL;
    struct error err = ERROR_INIT;

    if (!rpc_decode(type, &limits, bytes, &arena, &decoded, &err))
        return;
    json_t *json = message_to_json(decoded);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    if (!text)
        abort();
    check_printed(text, strlen(text));
    print(json);
    free(text);
    json_decref(json);
}

/* A size is printed in a form that is read as the same size. */
static void size(const char *bytes, size_t len)
{
    auto_free char *text = text_of_bytes(bytes, len);
    char printed[SIZE_TEXT_LEN];
    struct error err = ERROR_INIT;
    int64_t value = 0, again = 0;

    if (!text)
        abort();
    if (!size_parse("--size", text, &value, &err))
        return;
    if (value < 0)
        abort();
    size_text((uint64_t)value, printed);
    if (!size_parse("--size", printed, &again, &err) || again != value)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    const size_t type = bytes[0] % (ARRAY_LEN(types) + 1);

    if (type == ARRAY_LEN(types))
        size((const char *)bytes + 1, len - 1);
    else
        message(types[type], (struct rpc_bytes){ bytes + 1, len - 1 });
    return 0;
}
