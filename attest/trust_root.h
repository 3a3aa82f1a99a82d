/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral.h"

/*
 * The root certificate for quotes and collateral is Intel's. Only a build with the simulator can
 * use another one. The program loads it at start and logs a warning.
 */
extern const struct trust_root *trust_root_default;

#ifdef TDVOL_SIMULATOR
#define TRUST_ROOT_TEST_WARNING \
    "TEST BUILD: trusting a test root in place of Intel's; quotes prove nothing"

/* Makes the certificate (DER) in the file the default. Call it before threads start. */
MUST_USE bool trust_root_load_test(const char *path, struct error *err);
#endif
