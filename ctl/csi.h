/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * "tdvolctl csi COMMAND ...": a CSI client to drive the plugin by hand, as kubelet and the sidecars
 * do. argv[0] is "csi". Returns the exit code: 0 done, 1 the call failed, 2 wrong usage.
 */
int ctl_csi(int argc, char *const *argv);
