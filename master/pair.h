/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "master/source.h"

/* The sources of a broker's master key, and of the former one while it is being changed, from the broker's
 * options. */
struct master_pair_options {
    struct master_source_options current; /* spec is --master-key; NULL: see fd */
    int fd; /* --master-key-fd; -1: none. Without both, administrators bring the key */
    const char *old_spec, *old_wrapped; /* NULL: the key is not being changed */
};

/* The texts must outlive the sources. *old is NULL without old_spec. INVALID_ARGUMENT names the option. */
MUST_USE bool master_pair_new(const struct master_pair_options *options,
                              struct master_source **current, struct master_source **old,
                              struct error *err);
