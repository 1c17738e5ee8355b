/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded: logs each write and flush of a program to one file or block device, or kills the
 * program in front of one of them.
 *
 * CUT_TARGET  the image or device
 * CUT_LOG     records are appended to it: 1 byte type (W write, F flush, T truncate, P punch or
 *             discard), 8 bytes offset, 8 bytes length (little endian), for W the data
 * CUT_AT      SIGKILL in front of the write of this number, counted from 0
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat target;
static int state, log_fd = -1;
static long count, cut_at = -1;

static void set_up(void)
{
	const char *path = getenv("CUT_TARGET"), *log = getenv("CUT_LOG"), *at = getenv("CUT_AT");

	state = -1;
	if (!path || stat(path, &target))
		return;
	if (log)
		log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (at)
		cut_at = atol(at);
	state = 1;
}

static int ours(int fd)
{
	struct stat st;

	if (!state) {
		pthread_mutex_lock(&lock);
		if (!state)
			set_up();
		pthread_mutex_unlock(&lock);
	}
	if (state < 0 || fd == log_fd || fstat(fd, &st) || (st.st_mode & S_IFMT) != (target.st_mode & S_IFMT))
		return 0;
	if (S_ISBLK(st.st_mode))
		return st.st_rdev == target.st_rdev;
	return st.st_dev == target.st_dev && st.st_ino == target.st_ino;
}

static void put(const void *data, size_t length)
{
	while (length) {
		ssize_t n = syscall(SYS_write, log_fd, data, length);

		if (n <= 0)
			_exit(99);
		data = (const char *)data + n;
		length -= n;
	}
}

static void record(char type, uint64_t offset, uint64_t length, const void *data)
{
	int saved = errno;

	pthread_mutex_lock(&lock);
	if (type == 'W' && count++ == cut_at)
		kill(getpid(), SIGKILL);
	if (log_fd >= 0) {
		char head[17] = {type};

		for (int i = 0; i < 8; i++) {
			head[1 + i] = offset >> 8 * i;
			head[9 + i] = length >> 8 * i;
		}
		put(head, sizeof(head));
		if (data)
			put(data, length);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	if (ours(fd))
		record('W', offset, length, data);
	return syscall(SYS_pwrite64, fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
	return pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length)
{
	if (ours(fd))
		record('W', lseek(fd, 0, SEEK_CUR), length, data);
	return syscall(SYS_write, fd, data, length);
}

/* Not used by btrfs-progs so far: fail loudly instead of missing them. */
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t offset)
{
	if (ours(fd))
		abort();
	return syscall(SYS_pwritev, fd, v, n, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t offset)
{
	return pwritev(fd, v, n, offset);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	if (ours(fd))
		abort();
	return syscall(SYS_writev, fd, v, n);
}

int fsync(int fd)
{
	if (ours(fd))
		record('F', 0, 0, NULL);
	return syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	if (ours(fd))
		record('F', 0, 0, NULL);
	return syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length)
{
	if (ours(fd))
		record('T', 0, length, NULL);
	return syscall(SYS_ftruncate, fd, length);
}

int ftruncate64(int fd, off_t length)
{
	return ftruncate(fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (ours(fd))
		record('P', offset, length, NULL);
	return syscall(SYS_fallocate, fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off_t offset, off_t length)
{
	return fallocate(fd, mode, offset, length);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if ((request == BLKDISCARD || request == BLKZEROOUT) && ours(fd))
		record('P', ((uint64_t *)arg)[0], ((uint64_t *)arg)[1], NULL);
	return syscall(SYS_ioctl, fd, request, arg);
}
