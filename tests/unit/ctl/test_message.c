/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/message.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "csi.pb-c.h"
#include "keybroker.pb-c.h"

#define PRINTED_MAX 4096

/* What message_print writes for this JSON text. */
static const char *printed(const char *json, char out[PRINTED_MAX])
{
    json_t *message = json_loads(json, 0, NULL);
    FILE *file = tmpfile();
    const int stdout_before = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    assert_non_null(message);
    assert_non_null(file);
    (void)fflush(stdout);
    (void)dup2(fileno(file), STDOUT_FILENO);
    message_print(message);
    (void)fflush(stdout);
    (void)dup2(stdout_before, STDOUT_FILENO);
    (void)close(stdout_before);
    rewind(file);
    out[fread(out, 1, PRINTED_MAX - 1, file)] = '\0';
    (void)fclose(file);
    json_decref(message);
    return out;
}

static void assert_json(const ProtobufCMessage *message, const char *expected)
{
    json_t *json = message_to_json(message);
    char *text = json_dumps(json, JSON_COMPACT);

    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void maps_become_objects_and_absent_parts_are_left_out(void **state)
{
    (void)state;
    Csi__V1__CreateVolumeResponse response;
    Csi__V1__Volume volume;
    Csi__V1__Volume__VolumeContextEntry entry, *entries[] = { &entry };
    char key[] = "k", value[] = "v", volume_id[] = "tdvol-1";

    csi__v1__create_volume_response__init(&response);
    csi__v1__volume__init(&volume);
    csi__v1__volume__volume_context_entry__init(&entry);
    assert_json(&response.base, "{}");
    entry.key = key;
    entry.value = value;
    volume.capacity_bytes = INT64_C(1) << 40;
    volume.volume_id = volume_id;
    volume.n_volume_context = 1;
    volume.volume_context = entries;
    response.volume = &volume;
    assert_json(&response.base, "{\"volume\":{\"capacity_bytes\":1099511627776,\"volume_id\":"
                                "\"tdvol-1\",\"volume_context\":{\"k\":\"v\"},"
                                "\"accessible_topology\":[]}}");
}

static void only_the_chosen_side_of_a_oneof_is_shown(void **state)
{
    (void)state;
    Csi__V1__PluginCapability capability;
    Csi__V1__PluginCapability__Service service;

    csi__v1__plugin_capability__init(&capability);
    csi__v1__plugin_capability__service__init(&service);
    service.type = CSI__V1__PLUGIN_CAPABILITY__SERVICE__TYPE__CONTROLLER_SERVICE;
    capability.type_case = CSI__V1__PLUGIN_CAPABILITY__TYPE_SERVICE;
    capability.service = &service;
    assert_json(&capability.base, "{\"service\":{\"type\":\"CONTROLLER_SERVICE\"}}");
}

static void an_enum_value_of_a_newer_peer_stays_a_number(void **state)
{
    (void)state;
    Csi__V1__PluginCapability__Service service;

    csi__v1__plugin_capability__service__init(&service);
    service.type = 77;
    assert_json(&service.base, "{\"type\":77}");
}

static void times_and_wrapped_values_become_one_value(void **state)
{
    (void)state;
    Csi__V1__Snapshot snapshot;
    Google__Protobuf__Timestamp time;
    Csi__V1__ProbeResponse probe;
    Google__Protobuf__BoolValue ready;

    csi__v1__snapshot__init(&snapshot);
    google__protobuf__timestamp__init(&time);
    time.seconds = 1;
    time.nanos = 500000000;
    snapshot.creation_time = &time;
    json_t *json = message_to_json(&snapshot.base);
    assert_string_equal(json_string_value(json_object_get(json, "creation_time")),
                        "1970-01-01T00:00:01.500Z");
    json_decref(json);
    csi__v1__probe_response__init(&probe);
    google__protobuf__bool_value__init(&ready);
    ready.value = true;
    probe.ready = &ready;
    assert_json(&probe.base, "{\"ready\":true}");
}

static void bytes_become_hex_and_lists_arrays(void **state)
{
    (void)state;
    Tdvol__Keybroker__V1__Record record;
    uint8_t bytes[] = { 0x00, 0xab, 0xff };
    ProtobufCBinaryData digests[] = { { 3, bytes }, { 0, NULL } };

    tdvol__keybroker__v1__record__init(&record);
    record.n_header_digests = 2;
    record.header_digests = digests;
    json_t *json = message_to_json(&record.base);
    char *text = json_dumps(json_object_get(json, "header_digests"), JSON_COMPACT);
    assert_string_equal(text, "[\"00abff\",\"\"]");
    free(text);
    json_decref(json);
}

static void fields_are_aligned_and_sizes_readable(void **state)
{
    (void)state;
    char out[PRINTED_MAX];

    assert_string_equal(printed("{\"volume\":{\"volume_id\":\"a\",\"capacity_bytes\":1073741824,"
                                "\"topology\":[]},\"ready\":false}",
                                out),
                        "volume.volume_id       a\n"
                        "volume.capacity_bytes  1Gi\n"
                        "volume.topology        none\n"
                        "ready                  no\n");
}

static void lists_of_objects_become_tables_with_the_union_of_columns(void **state)
{
    (void)state;
    char out[PRINTED_MAX];

    assert_string_equal(printed("{\"entries\":[{\"v\":{\"id\":\"a\",\"used_by\":\"\"}},"
                                "{\"v\":{\"id\":\"bcde\"},\"n\":7}]}",
                                out),
                        "ID    USED BY  N\n"
                        "a\n"
                        "bcde           7\n");
}

static void empty_fields_are_left_out(void **state)
{
    (void)state;
    char out[PRINTED_MAX];

    assert_string_equal(printed("{\"next_token\":\"\",\"a\":\"b\"}", out), "a           b\n");
}

static void an_empty_answer_prints_nothing(void **state)
{
    (void)state;
    char out[PRINTED_MAX];

    assert_string_equal(printed("{}", out), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_become_objects_and_absent_parts_are_left_out),
        cmocka_unit_test(only_the_chosen_side_of_a_oneof_is_shown),
        cmocka_unit_test(an_enum_value_of_a_newer_peer_stays_a_number),
        cmocka_unit_test(times_and_wrapped_values_become_one_value),
        cmocka_unit_test(bytes_become_hex_and_lists_arrays),
        cmocka_unit_test(fields_are_aligned_and_sizes_readable),
        cmocka_unit_test(lists_of_objects_become_tables_with_the_union_of_columns),
        cmocka_unit_test(empty_fields_are_left_out),
        cmocka_unit_test(an_empty_answer_prints_nothing),
    };

    return RUN_TESTS(tests);
}
