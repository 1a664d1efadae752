"""Reports: boards, leaderboards, the site, pictures and statistics."""
