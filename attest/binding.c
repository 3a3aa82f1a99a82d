/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/binding.h"

#include "base/digest.h"

#include <string.h>

bool binding_report_data(const struct binding *binding, uint8_t out[static 64], struct error *err)
{
    static const uint8_t tag[BINDING_LEN] = "tdvol attest v1";
    uint8_t all[5 * BINDING_LEN];
    uint8_t *end = mempcpy(all, tag, BINDING_LEN);

    end = mempcpy(end, binding->nonce, BINDING_LEN);
    end = mempcpy(end, binding->client_key_sha256, BINDING_LEN);
    end = mempcpy(end, binding->sealing_key_sha256, BINDING_LEN);
    (void)mempcpy(end, binding->broker_key_sha256, BINDING_LEN);
    return sha512(all, sizeof(all), out, err);
}
