"""The parts of a training run behind `gmcourse.fit`: data feed, players' moves, engine, history, resume, progress bar."""
