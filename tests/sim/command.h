/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/option.h"

/* One sub-command of tdvol-sim. argv[0] is its name, so that the option parser skips it. */
struct command {
    const char *name;
    const char *usage;  /* what follows the name */
    const char *help;   /* one line */
    const char *lesson; /* shown by its own --help, before the options; ends without a new line */
    void (*print_faults)(void); /* what --fault takes, shown after the options; may be NULL */
    const struct option *table;
    size_t n;
    MUST_USE bool (*run)(int argc, char *const *argv, struct error *err);
};

extern const struct command command_pki, command_collateral, command_quote, command_ccel;
extern const struct command command_tsm, command_pccs;

/* The only positional argument; INVALID_ARGUMENT names what is missing. */
MUST_USE bool command_one_argument(const struct option_list *rest, const char *what,
                                   const char **out, struct error *err);
