"""Plain Python helpers without torch: files, configurations, command lines and run folders."""
