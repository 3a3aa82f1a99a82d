/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "blockd/launch.h"
#include "keys/evidence_request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What tdvol-csi does for the evidence of a session, without anything else of it: starts a real
 * tdvol-blockd, asks for a quote over the given binding, and prints what came back as JSON.
 */
struct front_options {
    const char *blockd, *dir, *tsm_root, *event_log, *nonce, *client, *broker;
    uint64_t timeout_ms;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("blockd", struct front_options, blockd, "FILE", "tdvol-blockd.",
                    .required = true),
    OPTION_TEXT_ROW("dir", struct front_options, dir, "DIR", "Where it may write.",
                    .required = true),
    OPTION_TEXT_ROW("tsm-root", struct front_options, tsm_root, "DIR", "As of tdvol-blockd."),
    OPTION_TEXT_ROW("event-log", struct front_options, event_log, "FILE", "As of tdvol-blockd."),
    OPTION_TEXT_ROW("nonce", struct front_options, nonce, "HEX", "32 bytes.", .required = true),
    OPTION_TEXT_ROW("client", struct front_options, client, "HEX", "32 bytes.", .required = true),
    OPTION_TEXT_ROW("broker", struct front_options, broker, "HEX", "32 bytes.", .required = true),
    OPTION_U64_ROW("timeout-ms", struct front_options, timeout_ms, 0, 600000, "MS",
                   "From the start of the request; 0: none."),
};

static json_t *hex(const uint8_t *bytes, size_t len)
{
    auto_free char *text = malloc(2 * len + 1);

    if (!text)
        return json_null();
    hex_encode(bytes, len, text);
    return json_string(text);
}

static json_t *attest(const struct front_options *options, const struct workers *blocks)
{
    auto_evidence struct evidence evidence = { .quote = NULL };
    uint8_t key[HPKE_PUBLIC_LEN];
    struct binding binding = { .nonce = { 0 } };
    struct error err = ERROR_INIT;
    uint64_t deadline_ms = options->timeout_ms ? clock_now_ms() + options->timeout_ms : 0;

    if ((!hex_decode(options->nonce, binding.nonce, BINDING_LEN) ||
         !hex_decode(options->client, binding.client_key_sha256, BINDING_LEN) ||
         !hex_decode(options->broker, binding.broker_key_sha256, BINDING_LEN)))
        (void)error_set(&err, ERROR_INVALID_ARGUMENT, "32 bytes in hex are wanted");
    else if (workers_collect_evidence(blocks, NULL, &binding, deadline_ms, &evidence, key, &err))
        return json_pack("{s:o, s:o, s:o}", "quote", hex(evidence.quote, evidence.quote_len),
                         "event_log", hex(evidence.event_log, evidence.event_log_len),
                         "sealing_public_key", hex(key, sizeof(key)));
    return json_pack("{s:s, s:s, s:s}", "code", error_code_name(err.code), "reason", err.reason,
                     "text", err.text);
}

int main(int argc, char **argv)
{
    struct front_options options = { .timeout_ms = 0 };
    struct option_list roots = { .n = 1 };
    struct blockd blockd = BLOCKD_INIT;
    struct error err = ERROR_INIT;

    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, &err)) {
        fprintf(stderr, "front: %s\n", err.text);
        return 2;
    }
    roots.items[0] = options.dir;
    const struct blockd_options start = {
        .path = options.blockd,
        .driver = "csi.test",
        .local_dir = options.dir,
        .state_dir = options.dir,
        .log = { LOG_FORMAT_TEXT, LOG_INFO },
        .free_roots = &roots,
        .tsm_root = options.tsm_root,
        .event_log = options.event_log,
    };
    if (!blockd_start(&start, &blockd, &err)) {
        fprintf(stderr, "front: %s\n", err.text);
        return 1;
    }
    struct blockd_link door = { .control_fd = blockd.control_fd };
    const struct workers blocks = workers_over(&door);
    json_t *said = attest(&options, &blocks);
    (void)json_dumpf(said, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(said);
    blockd_stop(&blockd);
    return 0;
}
