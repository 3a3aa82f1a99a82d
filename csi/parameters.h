/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "record/record.h"

/* The parameters of a StorageClass, as CreateVolume and GetCapacity receive them. */
struct parameters {
    int integrity;       /* enum parameter_integrity */
    int provisioning;    /* index of the choice */
    int discard;         /* 0 off, 1 on */
    int journal;         /* 0 on, 1 off */
    bool accept_loss;    /* the risk of journal=off is accepted */
    int workqueue;       /* index of the choice */
    int fencing;         /* enum fencing */
    const char *fs_type; /* "" when not given */
};

/* The choices in their order; all but auto have the values of enum integrity. */
enum parameter_integrity { PARAMETER_INTEGRITY_AUTO = 0 };

#define PARAMETERS_INIT \
    {                   \
        .fs_type = ""   \
    }

/* Sets one key, with or without PARAMETERS_PREFIX; INVALID_ARGUMENT for unknown keys. Keys that
 * external-provisioner adds about PVC and PV, and those for secrets, are accepted and ignored. */
MUST_USE bool parameters_set(struct parameters *parameters, const char *key, const char *value,
                             struct error *err);

/* The same for volumes of a driver below, to which all parameters go but ours. Ours are
 * PARAMETERS_PREFIX NAME, and the file system. *taken: the key was one of ours. */
#define PARAMETERS_PREFIX "tdvol.dev/"
MUST_USE bool parameters_take(struct parameters *parameters, const char *key, const char *value,
                              bool *taken, struct error *err);

/* INVALID_ARGUMENT for an unknown file system, or for parameters that contradict each other. */
MUST_USE bool parameters_check(const struct parameters *parameters, struct error *err);

/* A spec with what the parameters say, and nothing else; its integrity is never auto. */
struct volume_spec parameters_spec(const struct parameters *parameters,
                                   enum integrity default_integrity);

extern const char *const parameters_integrity_names[]; /* for options */

void parameters_print_markdown(void); /* rows of the reference table, to stdout */
