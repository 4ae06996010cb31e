#!/bin/sh
# Compiles the management API's stand-in against the jars of one Cassandra (JARS) into out/management-api.jar.
set -eu
mkdir classes
"$JAVA_HOME/bin/javac" --release 17 -nowarn -d classes -cp "$JARS/*" ./*.java
cp jvm17.options console-logback.xml classes/
printf 'Premain-Class: Agent\n' > manifest
"$JAVA_HOME/bin/jar" cfm out/management-api.jar manifest -C classes .
