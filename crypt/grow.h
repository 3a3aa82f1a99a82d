/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/table.h"
#include "record/record.h"
#include "record/volume_name.h"

/* The lengths of a volume's layers: when it is opened, and when it grows (volume_grow() in
 * crypt/volume.h). */

/* Makes dm-integrity and dm-crypt as long as spec says, over a device that is long enough. After a
 * growth that was interrupted, dm-integrity's superblock still has the old length, and so has the
 * mapping that libcryptsetup opens. */
MUST_USE bool mapping_extend(const struct volume_name *name, const struct volume_spec *spec,
                             struct error *err);

/* Fills in the table of the exposed device, over the layers that are up. */
MUST_USE bool exposed_table(const struct volume_name *name, const struct volume_spec *spec,
                            struct table *out, struct error *err);
