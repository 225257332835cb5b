#!/usr/bin/env php
<?php
// A child of ExecServer in PHP: takes connections one by one and says when it is busy.
//
//     require 'prefork.php';
//     (new Prefork())->serve(function ($client) { ... });     // $client: a stream
//
// PHP cannot accept on a socket that it has inherited, so the C library is called for that: the
// extensions FFI and pcntl are needed. Run as a program it is a line echo server, which the line
// `spin` hangs.
declare(strict_types=1);

final class Prefork
{
    public const WORDS = ['control' => ["\x06", "\x13", "\x11"], 'poe' => ['1', '2', '3']];
    private const EINTR = 4;
    private const EAGAIN = 11;
    private const ECONNABORTED = 103;

    private FFI $libc;
    private string $ack;
    private string $busy;
    private string $notBusy;
    private string $state;
    private float $interval;
    private float $nextAck = 0;
    private bool $stopping = false;
    private int $parent;

    public function __construct(
        private int $maxRequests = 25,
        string $words = 'control',
        private int $grace = 10,
    ) {
        [$this->ack, $this->busy, $this->notBusy] = self::WORDS[$words];
        $this->state = $this->notBusy;
        $this->interval = (float) (getenv('PREFORK_SEND_ACK') ?: 0);
        $this->parent = posix_getppid();
        $this->libc = FFI::cdef(
            'int accept(int, void *, void *); int close(int); int *__errno_location(void);
             unsigned ualarm(unsigned, unsigned);'
        );
        pcntl_async_signals(true);
        // Without restart: a signal interrupts accept.
        foreach ([SIGINT, SIGTERM] as $signal) {
            pcntl_signal($signal, $this->stop(...), false);
        }
        pcntl_signal(SIGALRM, function () {
        }, false);
    }

    /** Calls $handler with each connection, until told to stop or after $maxRequests (0: no limit). */
    public function serve(callable $handler): void
    {
        $this->checkListener();
        $served = 0;
        while (($client = $this->nextConnection()) !== null) {
            $this->turn($this->busy);
            if ($this->stopping) {
                $this->stop();
            }
            $served++;
            $handler($client);
            fclose($client);
            if ($this->stopping || $served === $this->maxRequests) {
                return;
            }
            $this->turn($this->notBusy);
        }
    }

    /** Says ACK if one is due; the state too, so that a word that was lost does no harm. Call it during
     * long work. */
    public function ack(): void
    {
        $now = hrtime(true) / 1e9;
        if ($now >= $this->nextAck) {
            $this->say($this->ack, $this->state);
            $this->nextAck = $now + ($this->interval ?: INF);
        }
    }

    /** Sends all of it, waiting as for input; false if the client has gone.
     *
     * @param resource $client
     */
    public function send($client, string $text): bool
    {
        while ($text !== '') {
            $this->wait($client, true);
            $count = @fwrite($client, $text);
            if ($count === false) {
                return false;
            }
            $text = substr($text, $count);
        }
        return true;
    }

    /** Waits until a client has sent something, or has room for more, and goes on saying ACK however
     * slow it is: only a process that is stuck in code is silent.
     *
     * @param resource $client
     */
    public function wait($client, bool $forWriting = false): void
    {
        do {
            $this->ack();
            $read = $forWriting ? null : [$client];
            $write = $forWriting ? [$client] : null;
            $none = null;
            $left = max(0.0, $this->nextAck - hrtime(true) / 1e9);
            [$seconds, $micros] = is_infinite($left) ? [3600, 0] : [(int) $left, (int) (fmod($left, 1) * 1e6)];
            // A signal interrupts it, which PHP warns of.
        } while (!@stream_select($read, $write, $none, $seconds, $micros));
    }

    /** One write, nothing buffered. The newline before a word ends whatever was printed before. */
    private function say(string ...$words): void
    {
        fwrite(STDOUT, "\n" . implode("\n", $words) . "\n");
    }

    private function turn(string $state): void
    {
        $this->state = $state;
        $this->say($state);
    }

    /** SIGINT: finish what is in hand, and leave. It also comes when the parent dies; then the time for
     * that is limited, in case this process is stuck. With nothing in hand the timer is that of accept. */
    private function stop(): void
    {
        $this->stopping = true;
        if ($this->state === $this->busy && posix_getppid() !== $this->parent) {
            pcntl_signal(SIGALRM, SIG_DFL);
            pcntl_alarm($this->grace);
        }
    }

    /** The socket is descriptor 3, if it is meant for this process. */
    private function checkListener(): void
    {
        if (getenv('LISTEN_PID') !== (string) getmypid() || (int) getenv('LISTEN_FDS') < 1) {
            fwrite(STDERR, "no socket from the parent: run this under ExecServer\n");
            exit(1);
        }
    }

    /** Waits for a connection; null when it is time to leave. Accept blocks, which wakes one process for
     * a connection and not all; a timer interrupts it, so that ACKs are sent and a SIGINT that came just
     * before is seen.
     *
     * @return ?resource
     */
    private function nextConnection()
    {
        $tick = (int) (min($this->interval / 2 ?: 0.5, 0.5) * 1e6);
        while (!$this->stopping) {
            $this->ack();
            $this->libc->ualarm($tick, $tick);
            $fd = $this->libc->accept(3, null, null);
            $errno = $this->libc->__errno_location()[0];
            $this->libc->ualarm(0, 0);
            if ($fd >= 0) {
                return $this->stream($fd);
            }
            if (!in_array($errno, [self::EINTR, self::EAGAIN, self::ECONNABORTED], true)) {
                fwrite(STDERR, "accept: error $errno\n");
                exit(1);
            }
        }
        return null;
    }

    /** @return resource */
    private function stream(int $fd)
    {
        // It has a copy of the descriptor.
        $stream = fopen("php://fd/$fd", 'r+');
        $this->libc->close($fd);
        stream_set_blocking($stream, false);
        return $stream;
    }
}

if (realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    $options = getopt('', ['max-requests:', 'words:', 'grace:']);
    $child = new Prefork(
        (int) ($options['max-requests'] ?? 25),
        $options['words'] ?? 'control',
        (int) ceil((float) ($options['grace'] ?? 10)),
    );
    $child->serve(function ($client) use ($child) {
        $buffer = '';
        while (true) {
            $child->wait($client);
            $data = @fread($client, 4096);
            if ($data === false || $data === '') {
                return;
            }
            $lines = explode("\n", $buffer . $data);
            $buffer = array_pop($lines);
            foreach ($lines as $line) {
                while ($line === 'spin') { // What the parent is there for.
                }
                if (!$child->send($client, "$line\n")) {
                    return;
                }
            }
        }
    });
}
