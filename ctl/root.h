/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral.h"

/* The root that evidence and collateral are judged under: Intel's, but for test builds that were
 * told another one by --test-root, which is said on stderr. path NULL: Intel's. */
MUST_USE bool root_choose(const char *path, struct trust_root *out, struct error *err);
