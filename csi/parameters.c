/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/parameters.h"

#include "base/option.h"
#include "record/fs_type.h"

#include <string.h>

#define KUBERNETES_PREFIX "csi.storage.k8s.io/"

const char *const parameters_integrity_names[] = { "auto", "aegis128", "hmac-sha256", "none",
                                                   NULL };
static const char *const init_names[] = { "background", "on-write", NULL };
static const enum initialisation inits[] = { INITIALISATION_BACKGROUND, INITIALISATION_ON_WRITE };
static const char *const switch_names[] = { "off", "on", NULL };

static const struct option rows[] = {
    OPTION_CHOICE_ROW("integrity", struct parameters, integrity, parameters_integrity_names,
                      "How changes of the stored data are noticed: aegis128 or hmac-sha256 "
                      "authenticate every sector, none only encrypts; auto (default) is what the "
                      "plugin's --default-integrity says."),
    OPTION_CHOICE_ROW("init", struct parameters, init, init_names,
                      "background (default) writes the whole volume once while it is in use and "
                      "reserves its space; on-write leaves it thin."),
    OPTION_CHOICE_ROW("discard", struct parameters, discard, switch_names,
                      "on passes discards to the storage, which then knows what is unused; with "
                      "integrity=none only (default off)."),
    OPTION_TEXT_ROW(KUBERNETES_PREFIX "fstype", struct parameters, fs_type, "TYPE",
                    "ext4 (default) or xfs, where the volume capability does not say it."),
};

/* Keys that external-provisioner and external-snapshotter add with --extra-create-metadata. */
static const char *const ignored[] = {
    KUBERNETES_PREFIX "pv/",
    KUBERNETES_PREFIX "pvc/",
    KUBERNETES_PREFIX "volumesnapshot/",
    KUBERNETES_PREFIX "volumesnapshotcontent/",
};

bool parameters_set(struct parameters *parameters, const char *key, const char *value,
                    struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        if (strncmp(key, ignored[i], strlen(ignored[i])) == 0)
            return true;
    if (!option_set(rows, ARRAY_LEN(rows), parameters, key, value, err))
        return error_wrap(err, "parameters");
    return true;
}

bool parameters_check(const struct parameters *parameters, struct error *err)
{
    enum fs_type type;

    if (parameters->fs_type[0] != '\0' && !fs_type_find(parameters->fs_type, &type))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "parameters: %sfstype \"%s\" is not supported; choose " FS_TYPE_CHOICES,
                         KUBERNETES_PREFIX, parameters->fs_type);
    if (parameters->discard && parameters->integrity != (int)INTEGRITY_NONE)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "parameters: discard=on needs integrity=none: a discarded sector of an "
                         "authenticated volume cannot be read");
    return true;
}

enum integrity parameters_integrity(const struct parameters *parameters,
                                    enum integrity default_integrity)
{
    return parameters->integrity == PARAMETER_INTEGRITY_AUTO
               ? default_integrity
               : (enum integrity)parameters->integrity;
}

enum initialisation parameters_initialisation(const struct parameters *parameters)
{
    return inits[parameters->init];
}

void parameters_print_markdown(void)
{
    option_print_markdown(rows, ARRAY_LEN(rows));
}
