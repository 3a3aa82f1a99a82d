/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/quirks.h"

#include "base/macro.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static const struct quirks rows[] = {
    { .driver = "hostpath.csi.k8s.io", .size_step = MIB },
    { .driver = "pd.csi.storage.gke.io",
      .size_step = GIB,  /* where it compares copy and source */
      .pause_ms = 250 }, /* its flag --backoff-initial-duration-ms: 200 */
    { .driver = "rbd.csi.ceph.com", .validates_blindly = true },
    { .driver = "csi.vsphere.vmware.com", .validates_blindly = true },
};

static const struct quirks others = { .driver = NULL };

const struct quirks *quirks_of(const char *driver)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].driver, driver) == 0)
            return &rows[i];
    return &others;
}

bool quirks_size(const struct quirks *quirks, uint64_t bytes, int64_t *out, struct error *err)
{
    uint64_t step = quirks->size_step > 0 ? quirks->size_step : 1;
    uint64_t n_steps = bytes / step + (bytes % step > 0);

    if (n_steps > INT64_MAX / step)
        return error_set(err, ERROR_OUT_OF_RANGE, "the disk would have more than %" PRId64 " bytes",
                         INT64_MAX);
    *out = (int64_t)(n_steps * step);
    return true;
}
