/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/parameters.h"

#include "base/option.h"
#include "record/fs_type.h"

#include <string.h>

#define KUBERNETES_PREFIX "csi.storage.k8s.io/"

const char *const parameters_integrity_names[] = { "auto", "aegis128", "hmac-sha256", "none",
                                                   NULL };
static const char *const provisioning_names[] = { "thick", "thin", NULL };
static const enum provisioning provisionings[] = { PROVISIONING_THICK, PROVISIONING_THIN };
static const char *const switch_names[] = { "off", "on", NULL };

static const struct option rows[] = {
    OPTION_CHOICE_ROW("integrity", struct parameters, integrity, parameters_integrity_names,
                      "How changes of the stored data are noticed: aegis128 or hmac-sha256 "
                      "authenticate every sector, none only encrypts; auto (default) is what the "
                      "plugin's --default-integrity says."),
    OPTION_CHOICE_ROW(
        "provisioning", struct parameters, provisioning, provisioning_names,
        "thick (default) reserves the whole space of the volume when it is created; "
        "thin takes space as it is written, and writes fail when there is none left."),
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

enum provisioning parameters_provisioning(const struct parameters *parameters)
{
    return provisionings[parameters->provisioning];
}

void parameters_print_markdown(void)
{
    option_print_markdown(rows, ARRAY_LEN(rows));
}
