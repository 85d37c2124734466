/* A network as downloads and uploads use it: one TCP connection to the host, which tells its port in BENCH_PORT. */
#include "bench.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 64 << 10, BLOCKS = 256, PAGE = 4096 };
static unsigned char buffer[BLOCK];
static int peer;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in ipv4(uint32_t address, int port)
{
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    found.sin_addr.s_addr = htonl(address);
    return found;
}

static void set_address(int any, struct ifreq *request, unsigned long what, uint32_t address)
{
    struct sockaddr_in place = ipv4(address, 0);
    memcpy(&request->ifr_addr, &place, sizeof place);
    if (ioctl(any, what, request) < 0)
        fail("eth0");
}

/* As DHCP would do it: 10.0.2.15 of 10.0.2.0/24. */
static void configure(void)
{
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    strcpy(request.ifr_name, "eth0");
    set_address(any, &request, SIOCSIFADDR, 0x0A00020F);
    set_address(any, &request, SIOCSIFNETMASK, 0xFFFFFF00);
    if (ioctl(any, SIOCGIFFLAGS, &request) < 0)
        fail("eth0");
    request.ifr_flags |= IFF_UP;
    if (ioctl(any, SIOCSIFFLAGS, &request) < 0 || ioctl(any, SIOCGIFMTU, &request) < 0)
        fail("eth0");
    printf("net: MTU %d\n", request.ifr_mtu);
    close(any);
}

/* Every page of what passes begins with its number, most significant byte first. */
static void stamp(unsigned char *page, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        page[i] = (unsigned char)(number >> (24 - 8 * i));
}

static uint32_t number_of(const unsigned char *page)
{
    return (uint32_t)page[0] << 24 | (uint32_t)page[1] << 16 | (uint32_t)page[2] << 8 | page[3];
}

static void ask(char what)
{
    if (send(peer, &what, 1, 0) != 1)
        fail("send");
}

static WORK uint32_t received(void)
{
    uint32_t good = 0;
    ask('r');
    for (int block = 0; block < BLOCKS; block++) {
        if (recv(peer, buffer, BLOCK, MSG_WAITALL) != BLOCK)
            fail("recv");
        for (int at = 0; at < BLOCK; at += PAGE)
            good += number_of(buffer + at) == (uint32_t)(block * (BLOCK / PAGE) + at / PAGE);
    }
    return good;
}

/* The host compares every byte, and answers how many pages were right. */
static WORK uint32_t sent(void)
{
    ask('s');
    for (int block = 0; block < BLOCKS; block++) {
        for (int at = 0; at < BLOCK; at += PAGE)
            stamp(buffer + at, (uint32_t)(block * (BLOCK / PAGE) + at / PAGE));
        for (int at = 0; at < BLOCK;) {
            ssize_t count = send(peer, buffer + at, (size_t)(BLOCK - at), 0);
            if (count <= 0)
                fail("send");
            at += (int)count;
        }
    }
    if (recv(peer, buffer, 4, MSG_WAITALL) != 4)
        fail("recv");
    return number_of(buffer);
}

int main(int argc, char **argv)
{
    begin(argc, argv);
    const char *port = getenv("BENCH_PORT");
    if (!port) {
        fputs("net: no BENCH_PORT\n", stderr);
        return 1;
    }
    configure();
    struct sockaddr_in host = ipv4(0x0A000202, atoi(port));
    peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || connect(peer, (struct sockaddr *)&host, sizeof host) < 0)
        fail("connect");
    memset(buffer, 0x5A, BLOCK);
    measure("net_receive", received, 8, BLOCKS * (BLOCK / 1e6), "MB/s");
    memset(buffer, 0x5A, BLOCK);
    measure("net_send", sent, 8, BLOCKS * (BLOCK / 1e6), "MB/s");
    return 0;
}
