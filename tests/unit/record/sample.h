/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/* A READY record in which every field has a different value. record_check() accepts it. */
struct record sample_record(void);
