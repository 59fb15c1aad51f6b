/*
 * Small files under /proc and /sys, read and written whole.
 */
#include "mount/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef STATX_MNT_ID_UNIQUE /* Linux 6.8; older kernels ignore it */
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif

static uint64_t read_number(const char *dir, const char *name)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t len = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	return strtoul(text, NULL, 10);
}

uint64_t tuning_request_timeout_ms(const char *sysctl_dir)
{
	const char *dir = sysctl_dir ? sysctl_dir : "/proc/sys/fs/fuse";
	uint64_t usual_s = read_number(dir, "default_request_timeout");
	uint64_t most_s = read_number(dir, "max_request_timeout");

	/*
	 * Both are 16 bit seconds. We ask for none of our own: the kernel then takes the default,
	 * and the maximum where that is 0.
	 */
	if (usual_s == 0 || (most_s != 0 && most_s < usual_s))
		usual_s = most_s;
	return usual_s * 1000;
}

int tuning_read_ahead(dev_t dev, unsigned kib)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
	int len = snprintf(text, sizeof(text), "%u\n", kib);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = write(fd, text, (size_t)len) == len ? 0 : -EIO;

	close(fd);
	return rc;
}

int tuning_mount_id(const char *mountpoint, struct mount_id *out)
{
	struct statx st;

	if (statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		  STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &st) != 0)
		return -errno;
	out->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	out->id = st.stx_mnt_id;
	return 0;
}
