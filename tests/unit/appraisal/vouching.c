/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/appraisal/vouching.h"

#include "attest/statement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x)                                                           \
    do {                                                                  \
        if (!(x)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                      \
        }                                                                 \
    } while (0)

static char *policy_text(const struct sim_td *td)
{
    char mrtd[2 * MEASUREMENT_LEN + 1], rtmr1[2 * MEASUREMENT_LEN + 1],
        rtmr2[2 * MEASUREMENT_LEN + 1];
    char *text = NULL;

    hex_encode(td->mrtd, MEASUREMENT_LEN, mrtd);
    hex_encode(td->rtmr[1], MEASUREMENT_LEN, rtmr1);
    hex_encode(td->rtmr[2], MEASUREMENT_LEN, rtmr2);
    MUST(asprintf(&text,
                  "{\"version\":1,\"images\":{\"broker-1\":{\"mrtd\":[\"%s\"],\"rtmr1\":[\"%s\"],"
                  "\"rtmr2\":[\"%s\"]}},\"rules\":[{\"name\":\"brokers\",\"td\":{\"images\":"
                  "[\"broker-1\"]},\"any_owner\":true,\"tenant\":\"t\",\"may\":[\"open\"],"
                  "\"volumes\":[\"*\"],\"nodes\":[\"*\"]}]}",
                  mrtd, rtmr1, rtmr2) > 0);
    return text;
}

void vouching_publish(struct vouching *v)
{
    struct collateral_set set = { .ca = PCK_CA_PLATFORM };
    const struct collateral_set *const sets[] = { &set };
    struct error err = ERROR_INIT;

    free(v->bundle);
    v->bundle = NULL;
    sim_collateral(v->pki, &v->tcb, &set);
    MUST(collateral_bundle_print(sets, 1, &v->bundle, &err));
    collateral_set_free(&set);
}

void vouching_make(struct vouching *v)
{
    *v = (struct vouching){ .pki = sim_pki_new(),
                            .platform = sim_platform_default,
                            .td = sim_td_default,
                            .tcb = sim_tcb_default() };
    v->machine = sim_machine_new(v->pki, &v->platform);
    v->policy = policy_text(&v->td);
    vouching_publish(v);
}

void vouching_free(struct vouching *v)
{
    sim_machine_free(v->machine);
    sim_pki_free(v->pki);
    free(v->bundle);
    free(v->policy);
    *v = (struct vouching){ .pki = NULL };
}

void vouching_show(struct vouching *v, const uint8_t *nonce, const uint8_t *key_sha256,
                   struct broker_evidence *out)
{
    size_t bundle_len = strlen(v->bundle);
    struct error err = ERROR_INIT;

    MUST(statement_report_data(nonce, key_sha256, v->td.report_data, &err));
    *out = (struct broker_evidence){ .bytes = malloc(QUOTE_LEN_MAX + bundle_len) };
    MUST(out->bytes);
    out->size.quote = (uint32_t)sim_quote(v->machine, &v->td, &sim_quoting_default, out->bytes);
    out->size.collateral = (uint32_t)bundle_len;
    memcpy(out->bytes + out->size.quote, v->bundle, bundle_len);
}
