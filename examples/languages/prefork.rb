#!/usr/bin/env ruby
# frozen_string_literal: true

# A child of ExecServer in Ruby: takes connections one by one and says when it is busy.
#
#     require_relative "prefork"
#     Prefork.new.serve { |client| ... }
#
# Run as a program it is a line echo server, which the line `spin` hangs.

require "io/wait"
require "socket"

class Prefork
  WORDS = { "control" => ["\x06", "\x13", "\x11"], "poe" => %w[1 2 3] }.freeze

  def initialize(max_requests: 25, words: "control", grace: 10)
    @max_requests = max_requests
    @ack, @busy, @not_busy = WORDS.fetch(words)
    @grace = grace
    interval = ENV.fetch("PREFORK_SEND_ACK", "0").to_f
    @interval = interval.positive? ? interval : nil
    @state = @not_busy
    @next_ack = 0
    @parent = Process.ppid
    @wakeup, @wake = IO.pipe
    %w[INT TERM].each { |signal| trap(signal) { stop } }
    @listener = listener
  end

  # Calls the block with each connection, until told to stop or after `max_requests` (0: no limit).
  # What the client does wrong ends its connection only.
  def serve
    served = 0
    while (client = next_connection)
      turn(@busy)
      served += 1
      begin
        yield client
      rescue SystemCallError, EOFError
        nil
      ensure
        client.close
      end
      break if @stopping || served == @max_requests

      turn(@not_busy)
    end
  end

  # Says ACK if one is due; the state too, so that a word that was lost does no harm. Call it during
  # long work.
  def ack
    return if now < @next_ack

    say(@ack, @state)
    @next_ack = now + (@interval || Float::INFINITY)
  end

  # Waits until a client has sent something, and goes on saying ACK however slow it is: only a process
  # that is stuck in code is silent.
  def wait(client)
    loop do
      ack
      return if client.wait_readable(patience)
    end
  end

  # Sends all of it, waiting in the same way.
  def send_all(client, text)
    until text.empty?
      count = client.write_nonblock(text, exception: false)
      if count == :wait_writable
        ack
        client.wait_writable(patience)
      else
        text = text.byteslice(count..)
      end
    end
  end

  private

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def patience
    [0, @next_ack - now].max if @interval
  end

  # One write, nothing buffered. The newline before a word ends whatever was printed before.
  def say(*words)
    $stdout.syswrite("#{words.map { |word| "\n#{word}" }.join}\n")
  end

  def turn(state)
    @state = state
    say(state)
  end

  # SIGINT: finish what is in hand, and leave. It also comes when the parent dies; then the time for
  # that is limited, in case this process is stuck.
  def stop
    @stopping = true
    @wake.write_nonblock(".", exception: false)
    return if Process.ppid == @parent

    Thread.new do
      sleep @grace
      exit!
    end
  end

  # Descriptor 3, if it is meant for this process.
  def listener
    meant = ENV["LISTEN_PID"] == Process.pid.to_s && ENV["LISTEN_FDS"].to_i >= 1
    abort "no socket from the parent: run this under ExecServer" unless meant
    Socket.for_fd(3)
  end

  # Waits for a connection; nil when it is time to leave. It looks once more when told to stop, in
  # case a connection has just come.
  def next_connection
    until @stopping
      ack
      client = try_accept
      return client if client

      IO.select([@listener, @wakeup], nil, nil, patience)
    end
    try_accept
  end

  def try_accept
    accepted = @listener.accept_nonblock(exception: false)
    accepted.first if accepted.is_a?(Array)
  rescue Errno::ECONNABORTED
    nil
  end
end

if __FILE__ == $PROGRAM_NAME
  require "optparse"
  options = { max_requests: 25, words: "control", grace: 10 }
  OptionParser.new do |parser|
    parser.on("--max-requests N", Integer)
    parser.on("--words WORDS", Prefork::WORDS.keys)
    parser.on("--grace SECONDS", Float)
  end.parse!(into: (given = {}))
  given.each { |name, value| options[name.to_s.tr("-", "_").to_sym] = value }
  child = Prefork.new(**options)
  child.serve do |client|
    buffer = +""
    loop do
      child.wait(client)
      buffer << client.readpartial(4096)
      while (line = buffer.slice!(/\A.*\n/))
        loop {} if line == "spin\n" # What the parent is there for.
        child.send_all(client, line)
      end
    end
  end
end
